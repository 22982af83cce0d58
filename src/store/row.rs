//! A node as a row, and back. A side's register is stored only where it differs from base.

use std::sync::Arc;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, Statement, params};

use super::StoreError;
use crate::tree::{
    Content, ContentHash, Digest, Facet, HashAlgo, ItemId, Kind, Name, Node, NodeId, Placement,
    Register, Rev,
};

pub(super) const COLUMNS: &str = "node_id, kind, \
    base_parent, base_name, base_size, base_hash, \
    local_parent, local_name, local_size, local_hash, local_item, local_rev, local_parked, \
    remote_parent, remote_name, remote_size, remote_hash, remote_item, remote_rev, remote_parked";

pub(super) const UPSERT: &str = "INSERT OR REPLACE INTO node VALUES \
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";

/// Which of a node's sides must be read again at the next look although its stamp is unchanged: the
/// file was written so shortly before it was read that a later write may carry the same times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Racy {
    pub local: bool,
    pub remote: bool,
}

pub(super) fn put(
    statement: &mut Statement<'_>,
    id: NodeId,
    node: &Node,
    racy: Racy,
) -> Result<(), StoreError> {
    let base = RegisterRow::of(node.base.as_deref(), None);
    let local = FacetRow::of(node.local.as_ref(), node.base.as_ref(), racy.local);
    let remote = FacetRow::of(node.remote.as_ref(), node.base.as_ref(), racy.remote);
    statement.execute(params![
        id.get(),
        matches!(node.kind, Kind::Dir),
        base.parent,
        base.name,
        base.size,
        base.hash,
        local.register.parent,
        local.register.name,
        local.register.size,
        local.register.hash,
        local.item,
        local.rev,
        local.parked,
        remote.register.parent,
        remote.register.name,
        remote.register.size,
        remote.register.hash,
        remote.item,
        remote.rev,
        remote.parked,
    ])?;
    Ok(())
}

pub(super) fn get(row: &Row<'_>) -> Result<(NodeId, Node), StoreError> {
    let id = node_id(row.get(0)?)?;
    let kind = if row.get::<_, bool>(1)? { Kind::Dir } else { Kind::File };
    let base = register(row, 2, kind)?.map(Arc::new);
    let local = facet(row, 6, kind, base.as_ref())?;
    let remote = facet(row, 13, kind, base.as_ref())?;
    Ok((id, Node { kind, base, local, remote }))
}

#[derive(Default)]
struct RegisterRow<'a> {
    parent: Option<u32>,
    name: Option<&'a str>,
    size: Option<i64>,
    hash: Option<&'a [u8]>,
}

impl<'a> RegisterRow<'a> {
    /// Empty where the register equals `known`.
    fn of(register: Option<&'a Register>, known: Option<&Register>) -> RegisterRow<'a> {
        let Some(register) = register.filter(|register| Some(*register) != known) else {
            return RegisterRow::default();
        };
        let (size, hash) = match &register.content {
            Content::Dir => (None, None),
            Content::Unread { size } => (Some(*size), None),
            Content::Is(digest) => (Some(digest.size), Some(digest.hash.bytes())),
        };
        RegisterRow {
            parent: Some(register.at.parent.get()),
            name: Some(register.at.name.as_str()),
            size: size.map(u64::cast_signed),
            hash,
        }
    }
}

#[derive(Default)]
struct FacetRow<'a> {
    register: RegisterRow<'a>,
    item: Option<Value>,
    rev: Option<Value>,
    parked: Option<&'a str>,
}

impl<'a> FacetRow<'a> {
    fn of(facet: Option<&'a Facet>, base: Option<&Arc<Register>>, racy: bool) -> FacetRow<'a> {
        let Some(facet) = facet else { return FacetRow::default() };
        let base = base.map(|base| &**base);
        FacetRow {
            register: RegisterRow::of(Some(&facet.register), base),
            item: Some(item_value(&facet.item)),
            rev: Some(rev_value(&facet.rev, racy)),
            parked: facet.parked.as_ref().map(Name::as_str),
        }
    }
}

fn register(row: &Row<'_>, at: usize, kind: Kind) -> Result<Option<Register>, StoreError> {
    let Some(parent) = row.get::<_, Option<i64>>(at)? else { return Ok(None) };
    let name = row.get_ref(at + 1)?.as_str().map_err(|_| StoreError::damaged("a name"))?;
    let name = Name::new(name).map_err(|_| StoreError::damaged("a name"))?;
    let content = match kind {
        Kind::Dir => Content::Dir,
        Kind::File => content(row, at + 2)?,
    };
    Ok(Some(Register { at: Placement { parent: node_id(parent)?, name }, content }))
}

fn content(row: &Row<'_>, at: usize) -> Result<Content, StoreError> {
    let size = row.get::<_, i64>(at)?.cast_unsigned();
    Ok(match hash(row.get_ref(at + 1)?)? {
        Some(hash) => Content::Is(Digest { size, hash }),
        None => Content::Unread { size },
    })
}

/// A hash, whose algorithm its length tells.
pub(super) fn hash(value: ValueRef<'_>) -> Result<Option<ContentHash>, StoreError> {
    let ValueRef::Blob(bytes) = value else { return Ok(None) };
    let algo = match bytes.len() {
        16 => HashAlgo::Md5,
        20 => HashAlgo::Sha1,
        _ => HashAlgo::Sha256,
    };
    ContentHash::from_bytes(algo, bytes).map(Some).ok_or(StoreError::damaged("a hash"))
}

fn facet(
    row: &Row<'_>,
    at: usize,
    kind: Kind,
    base: Option<&Arc<Register>>,
) -> Result<Option<Facet>, StoreError> {
    let Some(item) = item(row.get_ref(at + 4)?)? else { return Ok(None) };
    let register = match register(row, at, kind)? {
        Some(own) => Arc::new(own),
        None => Arc::clone(base.ok_or(StoreError::damaged("a register"))?),
    };
    let parked: Option<String> = row.get(at + 6)?;
    let parked = parked.map(|name| Name::new(&name)).transpose();
    Ok(Some(Facet {
        register,
        item,
        rev: rev(row.get_ref(at + 5)?)?,
        parked: parked.map_err(|_| StoreError::damaged("a parked name"))?,
    }))
}

fn node_id(id: i64) -> Result<NodeId, StoreError> {
    u32::try_from(id).ok().and_then(NodeId::new).ok_or(StoreError::damaged("a node id"))
}

/// An inode is 24 bytes, a key is text, and no bytes are an item that nothing proves.
fn item_value(item: &ItemId) -> Value {
    match item {
        ItemId::Inode { dev, ino, born_ns } => {
            let parts = [dev.to_le_bytes(), ino.to_le_bytes(), born_ns.to_le_bytes()];
            Value::Blob(parts.concat())
        }
        ItemId::Key(key) => Value::Text(key.to_string()),
        ItemId::Unproven => Value::Blob(Vec::new()),
    }
}

fn item(value: ValueRef<'_>) -> Result<Option<ItemId>, StoreError> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => {
            let key = std::str::from_utf8(text).map_err(|_| StoreError::damaged("an item id"))?;
            Ok(Some(ItemId::Key(key.into())))
        }
        ValueRef::Blob([]) => Ok(Some(ItemId::Unproven)),
        ValueRef::Blob(bytes) => {
            let [dev, ino, born] = words(bytes).ok_or(StoreError::damaged("an item id"))?;
            Ok(Some(ItemId::Inode { dev, ino, born_ns: born.cast_signed() }))
        }
        ValueRef::Integer(_) | ValueRef::Real(_) => Err(StoreError::damaged("an item id")),
    }
}

/// Times of a file are 16 bytes, a tag is `modified_s:tag`. A racy time is stored as one that no file
/// has, so that the next look reads the file again.
fn rev_value(rev: &Rev, racy: bool) -> Value {
    match rev {
        Rev::Stat { mtime_ns, ctime_ns } => {
            let ctime_ns = if racy { i64::MIN } else { *ctime_ns };
            Value::Blob([mtime_ns.to_le_bytes(), ctime_ns.to_le_bytes()].concat())
        }
        Rev::Tag { tag, modified_s } => Value::Text(format!("{modified_s}:{tag}")),
    }
}

fn rev(value: ValueRef<'_>) -> Result<Rev, StoreError> {
    match value {
        ValueRef::Blob(bytes) => {
            let [mtime, ctime] = words(bytes).ok_or(StoreError::damaged("a rev"))?;
            Ok(Rev::Stat { mtime_ns: mtime.cast_signed(), ctime_ns: ctime.cast_signed() })
        }
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| StoreError::damaged("a rev"))?;
            let (modified, tag) = text.split_once(':').ok_or(StoreError::damaged("a rev"))?;
            let modified_s = modified.parse().map_err(|_| StoreError::damaged("a rev"))?;
            Ok(Rev::Tag { tag: tag.into(), modified_s })
        }
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => {
            Err(StoreError::damaged("a rev"))
        }
    }
}

fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    if bytes.len() != N * 8 {
        return None;
    }
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}
