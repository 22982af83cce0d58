//! Every ordered pair of single changes on a tree of six nodes, and the decision tables as a file
//! that people can read: `tests/golden/plan_tables.txt`. `PLAN_TABLES=write` makes it anew.

mod plan_world;

use foldsync::plan::{Action, ConflictPolicy, Mode, Op};
use foldsync::tree::names::AsciiSet;
use foldsync::tree::{Kind, Name, NodeId, Placement, Side};
use plan_world::{Paths, Random, World, at};

/// `A/ B/ A/f g A/C/ A/C/h`, in sync.
struct Six {
    world: World,
    a: NodeId,
    b: NodeId,
    f: NodeId,
    g: NodeId,
    c: NodeId,
    h: NodeId,
}

impl Six {
    fn new() -> Six {
        let mut world = World::new();
        let mut add = |parent, name, token: Option<u64>| {
            let id = world.create(Side::Local, at(parent, name), token);
            world.add(Side::Remote, id, at(parent, name), token);
            id
        };
        let a = add(NodeId::ROOT, "A", None);
        let b = add(NodeId::ROOT, "B", None);
        let f = add(a, "f", Some(101));
        let g = add(NodeId::ROOT, "g", Some(102));
        let c = add(a, "C", None);
        let h = add(c, "h", Some(103));
        world.made.extend([101, 102, 103]);
        Six { world, a, b, f, g, c, h }
    }

    fn all(&self) -> [NodeId; 6] {
        [self.a, self.b, self.f, self.g, self.c, self.h]
    }
}

// ---- all pairs -------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Change {
    None,
    Delete(NodeId),
    Edit(NodeId),
    Retype(NodeId),
    Move(NodeId, Placement),
    MoveAndEdit(NodeId, Placement),
    NewFile(Placement),
    NewDir(Placement),
    Swap(NodeId, NodeId),
}

fn all_changes() -> Vec<Change> {
    let six = Six::new();
    let trees = &six.world.trees;
    let is_file = |id: &NodeId| trees.kind(*id) == Kind::File;
    let dirs = [NodeId::ROOT, six.a, six.b, six.c];
    let places = || dirs.iter().flat_map(|dir| "A B f g C x".split(' ').map(|n| at(*dir, n)));
    let free = |place: &Placement| trees.occupant(Side::Local, place).is_none();

    let mut changes = vec![Change::None];
    for id in six.all() {
        changes.push(Change::Delete(id));
        if is_file(&id) {
            changes.extend([Change::Edit(id), Change::Retype(id)]);
        }
        let inside = |place: &Placement| trees.is_within(Side::Local, place.parent, id);
        for place in places().filter(|place| free(place) && !inside(place)) {
            changes.push(Change::Move(id, place.clone()));
            if is_file(&id) {
                changes.push(Change::MoveAndEdit(id, place));
            }
        }
    }
    for place in places().filter(free) {
        changes.extend([Change::NewFile(place.clone()), Change::NewDir(place)]);
    }
    for (n, a) in six.all().into_iter().enumerate() {
        for b in six.all().into_iter().skip(n + 1) {
            let nested = |a, b| trees.is_within(Side::Local, a, b);
            if !nested(a, b) && !nested(b, a) {
                changes.push(Change::Swap(a, b));
            }
        }
    }
    changes
}

fn make(world: &mut World, side: Side, change: &Change) {
    match change {
        Change::None => {}
        Change::Delete(id) => world.delete(side, *id),
        Change::Edit(id) => world.edit(side, *id),
        Change::Retype(id) => {
            let place = world.trees.facet(side, *id).expect("it is there").at().clone();
            world.delete(side, *id);
            world.create(side, place, None);
        }
        Change::Move(id, to) => world.relocate(side, *id, to.clone()),
        Change::MoveAndEdit(id, to) => {
            world.relocate(side, *id, to.clone());
            world.edit(side, *id);
        }
        Change::NewFile(place) => {
            let token = world.new_token();
            world.create(side, place.clone(), Some(token));
        }
        Change::NewDir(place) => {
            world.create(side, place.clone(), None);
        }
        Change::Swap(a, b) => world.swap(side, *a, *b),
    }
}

fn try_pair(local: &Change, remote: &Change, order: u64) {
    let run = std::panic::AssertUnwindSafe(|| {
        let mut six = Six::new();
        make(&mut six.world, Side::Local, local);
        make(&mut six.world, Side::Remote, remote);
        let last = six.world.rest(&mut Random::new(order));
        six.world.assert_synced(&last);
        six.world.assert_nothing_lost();
    });
    if let Err(panic) = std::panic::catch_unwind(run) {
        eprintln!("local {local:?}, remote {remote:?}, order {order}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn every_pair_of_single_changes_ends_in_sync_and_loses_nothing() {
    let changes = all_changes();
    assert!(changes.len() > 150, "{} changes", changes.len());
    for (n, local) in changes.iter().enumerate() {
        for (m, remote) in changes.iter().enumerate() {
            for order in 0..2 {
                try_pair(local, remote, (n * changes.len() + m) as u64 * 2 + order);
            }
        }
    }
}

// ---- the tables ------------------------------------------------------------------------------

type Deed = (&'static str, fn(&mut Six, Side));

const NOTHING: Deed = ("-", |_, _| {});

struct Tables {
    lines: Vec<String>,
}

impl Tables {
    fn title(&mut self, text: &str) {
        self.lines.push(format!("\n# {text}"));
    }

    fn row(&mut self, rule: &str, local: Deed, remote: Deed) {
        self.row_in(rule, local, remote, |_| {});
    }

    fn row_in(&mut self, rule: &str, local: Deed, remote: Deed, set_up: fn(&mut World)) {
        let mut six = Six::new();
        set_up(&mut six.world);
        (local.1)(&mut six, Side::Local);
        (remote.1)(&mut six, Side::Remote);
        let before = six.world.paths(Side::Local);
        let (ops, last) = steps(&mut six.world);
        let after = six.world.paths(Side::Local);
        let mut result = changes_of(&before, &after);
        for hold in &last.holds {
            let path = six.world.trees.display_path(hold.node);
            result.push_str(&format!("; {path} held: {:?}", hold.reason));
        }
        for brake in &last.brakes {
            result.push_str(&format!("; brake: {:?}, {} files", brake.reason, brake.files));
        }
        if last.waiting > 0 {
            result.push_str(&format!("; {} wait", last.waiting));
        }
        self.lines.push(format!("{rule} | {} | {} | {ops} | {result}", local.0, remote.0));
    }
}

/// Runs plans to the end, each in its own order, and tells the operations, plan by plan.
fn steps(world: &mut World) -> (String, foldsync::plan::Plan) {
    let mut plans = Vec::new();
    loop {
        let plan = world.plan();
        if plan.binds.is_empty() && plan.ops.is_empty() {
            let text = if plans.is_empty() { "-".to_owned() } else { plans.join(" / ") };
            return (text, plan);
        }
        assert!(plans.len() < 40, "no end: {plans:?}");
        let mut told: Vec<String> = Vec::new();
        for bind in &plan.binds {
            told.push(format!("bind {}", world.trees.display_path(bind.keep)));
            world.bind(bind.keep, bind.newcomer);
        }
        told.extend(plan.ops.iter().map(|op| tell(world, op)));
        for op in plan.ops {
            let planned = world.planned(op);
            world.run(&planned);
        }
        plans.push(told.join(", "));
    }
}

fn tell(world: &World, op: &Op) -> String {
    let trees = &world.trees;
    let place = |parent: NodeId, name: &Name| {
        let folder = trees.path(op.side, parent).expect("the folder is there");
        folder.join(name)
    };
    let own = trees.path(op.side, op.node).unwrap_or_default();
    let side = if op.side == Side::Local { "L" } else { "R" };
    let what = match &op.action {
        Action::Mkdir { at } => format!("mkdir {}", place(at.parent, &at.name)),
        Action::Transfer { at, .. } if op.side == Side::Local => {
            format!("download {}", place(at.parent, &at.name))
        }
        Action::Transfer { at, .. } => format!("upload {}", place(at.parent, &at.name)),
        Action::Move { to } => format!("move {own} > {}", place(to.parent, &to.name)),
        Action::Park => format!("park {own}"),
        Action::Delete => format!("delete {own}"),
        Action::KeepBoth { copy } => format!("keep both {own} > {copy}"),
        Action::Learn => format!("learn {own}"),
    };
    format!("{side} {what} [{:?}]", op.why)
}

/// What became different on the local side: tokens tell whose content a file has.
fn changes_of(before: &Paths, after: &Paths) -> String {
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
    let new = after.iter().filter(|(path, token)| before.get(*path) != Some(token));
    let mut told: Vec<String> = gone.map(|(path, _)| format!("-{path}")).collect();
    told.extend(new.map(|(path, token)| match token {
        Some(token) => format!("+{path}={token}"),
        None => format!("+{path}/"),
    }));
    if told.is_empty() { "local unchanged".to_owned() } else { told.join(" ") }
}

fn go(six: &mut Six, side: Side, id: NodeId, parent: NodeId, name: &str) {
    six.world.relocate(side, id, at(parent, name));
}

fn own_name(side: Side) -> &'static str {
    if side == Side::Local { "l" } else { "r" }
}

fn new_file(six: &mut Six, side: Side, parent: NodeId, name: &str) -> NodeId {
    let token = six.world.new_token();
    six.world.create(side, at(parent, name), Some(token))
}

fn new_dir(six: &mut Six, side: Side, parent: NodeId, name: &str) -> NodeId {
    six.world.create(side, at(parent, name), None)
}

/// Makes one thing on both sides, as if each had made its own.
fn same_file(six: &mut Six, side: Side) {
    six.world.made.insert(900);
    six.world.create(side, at(NodeId::ROOT, "n"), Some(900));
}

const EDIT: Deed = ("edit g", |six, side| six.world.edit(side, six.g));
const DELETE: Deed = ("delete g", |six, side| six.world.delete(side, six.g));
const MOVE: Deed = ("move g to its own name", |six, side| {
    go(six, side, six.g, six.b, own_name(side));
});
const MOVE_EDIT: Deed = ("move and edit g", |six, side| {
    go(six, side, six.g, six.b, own_name(side));
    six.world.edit(side, six.g);
});
const TOUCH: Deed = ("touch g", |six, side| six.world.forget_reading(side, six.g));

fn table_a(tables: &mut Tables) {
    tables.title("A: files in base");
    let rows = [("U", NOTHING), ("E", EDIT), ("M", MOVE), ("ME", MOVE_EDIT), ("D", DELETE)];
    for (l, local) in rows {
        for (r, remote) in rows {
            tables.row(&format!("A {l}x{r}"), local, remote);
        }
    }
    let same_edit: Deed = ("write 900 to g", |six, side| {
        six.world.made.insert(900);
        six.world.write(side, six.g, 900);
        six.world.removed.insert(102);
    });
    let same_move: Deed = ("move g to B/x", |six, side| go(six, side, six.g, six.b, "x"));
    tables.row("A same edit (EE-02)", same_edit, same_edit);
    tables.row("A same move (MV-09)", same_move, same_move);
}

fn table_b(tables: &mut Tables) {
    tables.title("B: folders in base");
    let moved: Deed =
        ("move A to its own name", |six, side| go(six, side, six.a, six.b, own_name(side)));
    let deleted: Deed = ("delete A", |six, side| six.world.delete(side, six.a));
    let rows = [("U", NOTHING), ("M", moved), ("D", deleted)];
    for (l, local) in rows {
        for (r, remote) in rows {
            tables.row(&format!("B {l}x{r}"), local, remote);
        }
    }
    let edit: Deed = ("edit A/C/h", |six, side| six.world.edit(side, six.h));
    let add: Deed = ("new A/C/n", |six, side| {
        new_file(six, side, six.c, "n");
    });
    tables.row("B new inside (ED-05)", add, deleted);
    tables.row("B new inside (ED-06)", deleted, add);
    tables.row("B edited inside", edit, deleted);
    tables.row("B edited inside", deleted, edit);
    let out: Deed = ("move A/f to f, delete A", |six, side| {
        go(six, side, six.f, NodeId::ROOT, "f");
        six.world.delete(side, six.a);
    });
    tables.row("B moved out (MV-16)", out, NOTHING);
    tables.row("B moved, edited inside (MV-18)", moved, edit);
    let one: Deed = ("delete A/f", |six, side| six.world.delete(side, six.f));
    tables.row("B moved, deleted inside (ED-18)", moved, one);
    tables.row("B moved, deleted inside (ED-18)", one, moved);
}

fn table_c(tables: &mut Tables) {
    tables.title("C: nodes not in base");
    let file: Deed = ("new file n", |six, side| {
        new_file(six, side, NodeId::ROOT, "n");
    });
    let dir: Deed = ("new folder n with its own file", |six, side| {
        let dir = new_dir(six, side, NodeId::ROOT, "n");
        new_file(six, side, dir, own_name(side));
    });
    let rows = [("-", NOTHING), ("file", file), ("folder", dir)];
    for (l, local) in rows {
        for (r, remote) in rows {
            tables.row(&format!("C {l} x {r}"), local, remote);
        }
    }
    let equal: Deed = ("new file n=900", same_file);
    let unread: Deed = ("new file n=900, not read", |six, side| {
        same_file(six, side);
        let place = at(NodeId::ROOT, "n");
        let id = six.world.trees.occupant(side, &place).expect("just made");
        six.world.forget_reading(side, id);
    });
    let longer: Deed = ("new file n, other size", |six, side| {
        six.world.made.insert(901);
        six.world.create(side, at(NodeId::ROOT, "n"), Some(901));
    });
    let other: Deed = ("new file n, equal size", |six, side| {
        six.world.made.insert(902);
        six.world.create(side, at(NodeId::ROOT, "n"), Some(902));
    });
    tables.row("C equal (POL-7)", equal, equal);
    tables.row("C unread, equal", equal, unread);
    tables.row("C unread, not equal (BC-05)", other, unread);
    tables.row("C unread, other size", longer, unread);
    tables.row("C both unread", unread, unread);
    tables.row("C only remote, unread", NOTHING, unread);
    tables.row("C only local, unread", unread, NOTHING);
    let composed: Deed = ("new file \u{e9}=900 composed", |six, side| {
        six.world.made.insert(900);
        six.world.create(side, at(NodeId::ROOT, "\u{e9}"), Some(900));
    });
    let decomposed: Deed = ("new file e\u{301}=900 decomposed", |six, side| {
        six.world.made.insert(900);
        six.world.create(side, at(NodeId::ROOT, "e\u{301}"), Some(900));
    });
    tables.row("C spelled alike (NM-03)", decomposed, composed);
}

fn table_d(tables: &mut Tables) {
    tables.title("D: type changes");
    let to_dir: Deed = ("g becomes a folder", |six, side| {
        six.world.delete(side, six.g);
        let dir = new_dir(six, side, NodeId::ROOT, "g");
        new_file(six, side, dir, own_name(side));
    });
    let replaced: Deed = ("g becomes another file", |six, side| {
        six.world.delete(side, six.g);
        new_file(six, side, NodeId::ROOT, "g");
    });
    for (rule, remote) in [
        ("D U", NOTHING),
        ("D E", EDIT),
        ("D M", MOVE),
        ("D D", DELETE),
        ("D folder, too (TY-05)", to_dir),
        ("D other file", replaced),
    ] {
        tables.row(rule, to_dir, remote);
    }
    tables.row("D E, mirrored", EDIT, to_dir);
    let to_file: Deed = ("A becomes a file", |six, side| {
        six.world.delete(side, six.a);
        new_file(six, side, NodeId::ROOT, "A");
    });
    let edit: Deed = ("edit A/f", |six, side| six.world.edit(side, six.f));
    let add: Deed = ("new A/z", |six, side| {
        new_file(six, side, six.a, "z");
    });
    tables.row("D folder to file (TY-02)", to_file, NOTHING);
    tables.row("D folder to file, edited inside", to_file, edit);
    tables.row("D folder to file, new inside (TY-02)", to_file, add);
    tables.row("D folder to file, new inside, mirrored", add, to_file);
    tables.row("D folder to file, both", to_file, to_file);
}

fn table_e(tables: &mut Tables) {
    tables.title("E: names, cycles, swaps");
    let swap_files: Deed = ("swap A/f and g", |six, side| six.world.swap(side, six.f, six.g));
    let swap_dirs: Deed = ("swap A and B", |six, side| six.world.swap(side, six.a, six.b));
    let invert: Deed = ("A/C becomes C/A", |six, side| {
        go(six, side, six.c, NodeId::ROOT, "C");
        go(six, side, six.a, six.c, "A");
    });
    let chain: Deed = ("A/C to A, A to B/A", |six, side| {
        go(six, side, six.a, six.b, "A");
        go(six, side, six.c, NodeId::ROOT, "A");
    });
    tables.row("E swap (MV-11)", swap_files, NOTHING);
    tables.row("E swap", NOTHING, swap_dirs);
    tables.row("E swapped differently", swap_files, swap_dirs);
    tables.row("E inversion (MV-13)", invert, NOTHING);
    tables.row("E a name freed by a move", chain, NOTHING);
    let a_in_b: Deed = ("A into B", |six, side| go(six, side, six.a, six.b, "A"));
    let b_in_a: Deed = ("B into A", |six, side| go(six, side, six.b, six.a, "B"));
    tables.row("E cycle (MV-14)", a_in_b, b_in_a);
    let g_to_n: Deed = ("g to n", |six, side| go(six, side, six.g, NodeId::ROOT, "n"));
    let f_to_n: Deed = ("A/f to n", |six, side| go(six, side, six.f, NodeId::ROOT, "n"));
    let new_n: Deed = ("new file n", |six, side| {
        new_file(six, side, NodeId::ROOT, "n");
    });
    tables.row("E two to one name", g_to_n, f_to_n);
    tables.row("E moved to a new name", g_to_n, new_n);
    tables.row("E new under a moved name", new_n, g_to_n);
    let over: Deed = ("A/f over g", |six, side| {
        six.world.delete(side, six.g);
        go(six, side, six.f, NodeId::ROOT, "g");
    });
    tables.row("E moved over (MV-22)", over, NOTHING);
    tables.row("E moved over, edited (MV-22)", over, EDIT);
    let up: Deed = ("A/C/h to A, A gone", |six, side| {
        go(six, side, six.h, NodeId::ROOT, "h");
        six.world.delete(side, six.a);
        go(six, side, six.h, NodeId::ROOT, "A");
    });
    tables.row("E delete waits for the mover", up, NOTHING);
    let renamed_anew: Deed = ("g to b, new g", |six, side| {
        go(six, side, six.g, NodeId::ROOT, "b");
        new_file(six, side, NodeId::ROOT, "g");
    });
    tables.row("E renamed, new under the old name (MV-15)", renamed_anew, NOTHING);
    tables.row("E moved differently, new under the old name", g_to_n, renamed_anew);
    let replaced: Deed = ("delete g, new g", |six, side| {
        six.world.delete(side, six.g);
        new_file(six, side, NodeId::ROOT, "g");
    });
    tables.row("E moved here, made anew there (MV-35)", g_to_n, replaced);
}

fn names(tables: &mut Tables) {
    use foldsync::tree::names::{CaseRule, Known};
    tables.title("Names that the remote cannot hold");
    let strict = |world: &mut World| {
        world.remote_names.forbidden = AsciiSet::EMPTY.with('?');
        world.remote_names.case = Known::Is(CaseRule::Insensitive);
    };
    let odd: Deed = ("new folder n? with a file", |six, side| {
        let dir = new_dir(six, side, NodeId::ROOT, "n?");
        new_file(six, side, dir, "i");
    });
    let to_odd: Deed = ("g to g?", |six, side| go(six, side, six.g, NodeId::ROOT, "g?"));
    let two: Deed = ("new files n and N", |six, side| {
        new_file(six, side, NodeId::ROOT, "n");
        new_file(six, side, NodeId::ROOT, "N");
    });
    let like_bound: Deed = ("new file G", |six, side| {
        new_file(six, side, NodeId::ROOT, "G");
    });
    let case_only: Deed = ("g to G", |six, side| go(six, side, six.g, NodeId::ROOT, "G"));
    let replace: Deed = ("delete g, new file G", |six, side| {
        six.world.delete(side, six.g);
        new_file(six, side, NodeId::ROOT, "G");
    });
    tables.row_in("names, forbidden", odd, NOTHING, strict);
    tables.row_in("names, forbidden after a rename", to_odd, EDIT, strict);
    tables.row_in("names, case only (NM-18)", two, NOTHING, strict);
    tables.row_in("names, case, one is bound (NM-18)", like_bound, NOTHING, strict);
    tables.row_in("names, renamed by case only", case_only, NOTHING, strict);
    tables.row_in("names, case, the other one goes", replace, NOTHING, strict);
}

fn unread(tables: &mut Tables) {
    tables.title("Contents that nobody has read");
    let unread_edit: Deed = ("edit g, not read", |six, side| {
        six.world.edit(side, six.g);
        six.world.forget_reading(side, six.g);
    });
    let longer: Deed = ("edit g to another size, not read", |six, side| {
        six.world.made.insert(901);
        six.world.removed.insert(102);
        six.world.write(side, six.g, 901);
        six.world.forget_reading(side, six.g);
    });
    let touch_move: Deed = ("move and touch g", |six, side| {
        go(six, side, six.g, six.b, own_name(side));
        six.world.forget_reading(side, six.g);
    });
    for (name, deed) in [("touched", TOUCH), ("edited", unread_edit), ("resized", longer)] {
        tables.row(&format!("unread {name} locally"), deed, NOTHING);
        tables.row(&format!("unread {name} remotely"), NOTHING, deed);
        tables.row(&format!("unread {name} remotely, edited here"), EDIT, deed);
        tables.row(&format!("unread {name} remotely, moved here"), MOVE, deed);
        tables.row(&format!("unread {name} remotely, deleted here"), DELETE, deed);
        tables.row(&format!("unread {name} locally, deleted there (ED-13)"), deed, DELETE);
    }
    tables.row("unread moved remotely", NOTHING, touch_move);
    tables.row("unread moved locally", touch_move, NOTHING);
    let touch_inside: Deed = ("touch A/f", |six, side| six.world.forget_reading(side, six.f));
    let gone: Deed = ("delete A", |six, side| six.world.delete(side, six.a));
    tables.row("unread in a deleted folder (ED-13)", touch_inside, gone);
    tables.row("unread in a deleted folder", gone, touch_inside);
}

type Variant = (&'static str, fn(&mut World));

fn modes(tables: &mut Tables) {
    tables.title("One-way modes and conflict policies");
    let far: Deed = ("new file n, new folder A/m", |six, side| {
        new_file(six, side, NodeId::ROOT, "n");
        new_dir(six, side, six.a, "m");
    });
    let near: Deed = ("new file n, delete A/f", |six, side| {
        new_file(six, side, NodeId::ROOT, "n");
        six.world.delete(side, six.f);
    });
    let to_dir: Deed = ("g becomes a folder", |six, side| {
        six.world.delete(side, six.g);
        new_dir(six, side, NodeId::ROOT, "g");
    });
    let mirror_up = |world: &mut World| world.mode = Mode::MirrorUp;
    let mirror_down = |world: &mut World| world.mode = Mode::MirrorDown;
    let backup_up = |world: &mut World| world.mode = Mode::BackupUp;
    let backup_down = |world: &mut World| world.mode = Mode::BackupDown;
    let modes: [Variant; 4] = [
        ("mirror-up", mirror_up),
        ("mirror-down", mirror_down),
        ("backup-up", backup_up),
        ("backup-down", backup_down),
    ];
    for (name, mode) in modes {
        tables.row_in(&format!("{name} EE"), EDIT, EDIT, mode);
        tables.row_in(&format!("{name} DE"), DELETE, EDIT, mode);
        tables.row_in(&format!("{name} ED"), EDIT, DELETE, mode);
        tables.row_in(&format!("{name} MM"), MOVE, MOVE, mode);
        tables.row_in(&format!("{name} new"), near, far, mode);
        tables.row_in(&format!("{name} type"), to_dir, EDIT, mode);
        tables.row_in(&format!("{name} type, mirrored"), EDIT, to_dir, mode);
    }
    let newer = |world: &mut World| world.conflict = ConflictPolicy::Newer;
    let older = |world: &mut World| world.conflict = ConflictPolicy::Older;
    let larger = |world: &mut World| world.conflict = ConflictPolicy::Larger;
    let local = |world: &mut World| world.conflict = ConflictPolicy::Local;
    let remote = |world: &mut World| world.conflict = ConflictPolicy::Remote;
    let policies: [Variant; 5] = [
        ("newer", newer),
        ("older", older),
        ("larger", larger),
        ("local", local),
        ("remote", remote),
    ];
    let new_n: Deed = ("new file n", |six, side| {
        new_file(six, side, NodeId::ROOT, "n");
    });
    for (name, policy) in policies {
        tables.row_in(&format!("{name} wins EE"), EDIT, EDIT, policy);
        tables.row_in(&format!("{name} wins, new"), new_n, new_n, policy);
    }
}

#[test]
fn the_tables_are_what_people_reviewed() {
    let mut tables = Tables {
        lines: vec![
            "# rule | local did | remote did | operations, plan by plan | local afterwards"
                .to_owned(),
            "# Tree: A/ B/ A/f=101 g=102 A/C/ A/C/h=103; new content is numbered from 1."
                .to_owned(),
        ],
    };
    table_a(&mut tables);
    table_b(&mut tables);
    table_c(&mut tables);
    table_d(&mut tables);
    table_e(&mut tables);
    names(&mut tables);
    unread(&mut tables);
    modes(&mut tables);
    let text = tables.lines.join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/plan_tables.txt");
    if std::env::var("PLAN_TABLES").is_ok_and(|wish| wish == "write") {
        std::fs::write(path, &text).expect("the golden file can be written");
    }
    let reviewed = std::fs::read_to_string(path).expect("the golden file is there");
    for (line, (now, reviewed)) in text.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(now, reviewed, "line {}", line + 1);
    }
    assert_eq!(text.lines().count(), reviewed.lines().count());
}
