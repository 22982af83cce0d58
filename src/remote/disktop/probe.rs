//! Finds out what the document does not say, by trying it in a scratch folder of the account.
//!
//! Only `doctor` calls this. It goes around the adapter's own caution on purpose, with files of its
//! own, and removes them again; it never touches anything else.

use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::api::{Api, Change, Declared, Target};
use super::listing::{Folder, Id, read_folder};
use super::{DiskTop, Measured, sandbox_path};
use crate::remote::{
    CaseRule, DeleteKind, ErrorKind, IdLife, Known, RemoteError, Result, SameName,
};
use crate::tree::{Entry, HashAlgo, Hasher, Name, RelPath};

/// What was found out, and what a person may want to know besides.
#[derive(Clone, Debug)]
pub struct Findings {
    pub measured: Measured,
    /// Each a fact and what it was found to be.
    pub notes: Vec<(&'static str, String)>,
}

/// The files of one measurement.
struct Scratch<'a> {
    api: &'a Api,
    path: RelPath,
    /// Makes contents that no account has.
    salt: String,
    serial: u32,
}

const PARTS_MAX: u64 = 4;

impl Scratch<'_> {
    fn folder(&self) -> String {
        sandbox_path(&self.path)
    }

    async fn read(&self) -> Result<Folder> {
        read_folder(self.api, &self.folder()).await
    }

    /// Uploads fresh content under a name, whatever is there. Returns the content's hash.
    async fn upload(&mut self, name: &str) -> Result<String> {
        self.serial += 1;
        let content = Bytes::from(format!("foldsync doctor {} {}", self.salt, self.serial));
        let md5 = Hasher::of(HashAlgo::Md5, &content).hex();
        let (parent_path, size) = (self.folder(), content.len() as u64);
        let declared = Declared { parent_path: &parent_path, name, size, md5: &md5 };
        let odd = || RemoteError::new(ErrorKind::Protocol, "the upload session makes no sense");
        let told = self.api.precreate(&declared).await?;
        let (Some(id), Some(endpoint)) = (told.upload_id, told.endpoint) else { return Err(odd()) };
        let endpoint = self.api.http().origins().admit(&endpoint)?;
        let chunk =
            told.chunk_size.and_then(|c| c.unsigned()).filter(|c| *c > 0).ok_or_else(odd)?;
        if size.div_ceil(chunk) > PARTS_MAX {
            return Err(odd());
        }
        let mut rest = content;
        let mut part_seq = 1;
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(usize::try_from(chunk).unwrap_or(usize::MAX)));
            let len = part.len() as u64;
            let body = futures_util::stream::iter([Ok(part)]).boxed();
            self.api.send_part(&endpoint, &id.0, part_seq, len, body).await?;
            part_seq += 1;
        }
        self.api.complete(&endpoint, &id.0).await?;
        Ok(md5)
    }

    /// The file that holds some content.
    async fn holder(&self, md5: &str) -> Result<Option<Entry>> {
        let folder = self.read().await?;
        let found = folder.entries().find(|e| e.hash.is_some_and(|hash| hash.hex() == md5));
        Ok(found.cloned())
    }

    async fn file_under(&mut self, name: &str) -> Result<(u64, Entry)> {
        let md5 = self.upload(name).await?;
        let entry = self.holder(&md5).await?;
        let id = entry.as_ref().and_then(|entry| match Id::of(&entry.item)? {
            Id::File(id) => Some(id),
            Id::Folder(_) => None,
        });
        entry.and_then(|entry| Some((id?, entry))).ok_or_else(|| {
            let context = format!("a fresh upload, {name}, is not listed: the listings lag");
            RemoteError::new(ErrorKind::Unavailable, context)
        })
    }

    /// Deletes everything in the scratch folder, and the folder.
    async fn remove(self, folder_id: u64) -> Result<()> {
        let folder = self.read().await?;
        let items = folder.entries().filter_map(|entry| Id::of(&entry.item));
        let (mut files, mut folders): (Vec<Target>, Vec<Target>) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Id::File(id) => files.push(Target::File(id)),
                Id::Folder(id) => folders.push(Target::Folder(id)),
            }
        }
        for item in files.into_iter().chain(folders).chain([Target::Folder(folder_id)]) {
            self.api.manage(&Change::Delete, &[item]).await?;
        }
        Ok(())
    }
}

impl DiskTop {
    /// Tries the account out. Sends a few dozen requests and a few hundred bytes; what it made is
    /// removed also if it fails half-way, as far as the service lets it.
    pub async fn measure(&self) -> Result<Findings> {
        let salt = format!("{:x}", self.api.http().clock().now().0);
        let name = Name::new(&format!(".foldsync-doctor-{salt}"))
            .map_err(|error| RemoteError::new(ErrorKind::InvalidName, error.to_string()))?;
        let made = self.ensure_folder(&RelPath::root(), &name).await?;
        let folder_id = match Id::of(&made.item) {
            Some(Id::Folder(id)) => id,
            Some(Id::File(_)) | None => {
                return Err(RemoteError::new(ErrorKind::Protocol, "the new folder is a file"));
            }
        };
        let path = RelPath::root().join(&made.name);
        let mut scratch = Scratch { api: &self.api, path, salt, serial: 0 };
        let outcome = self.try_all(&mut scratch).await;
        let removed = scratch.remove(folder_id).await;
        let mut findings = outcome?;
        if let Err(error) = removed {
            let note = format!("{made_name} could not be removed: {error}", made_name = made.name);
            findings.notes.push(("scratch folder", note));
        }
        Ok(findings)
    }

    async fn try_all(&self, scratch: &mut Scratch<'_>) -> Result<Findings> {
        let measured = Measured {
            same_name: self.try_same_name(scratch).await?,
            id_life: try_move(scratch).await?,
            delete: try_delete(scratch).await?,
            case: try_case(scratch).await?,
        };
        let mut notes = vec![
            ("same name", word_of(SAME_NAMES, measured.same_name)),
            ("ids after a move", word_of(ID_LIVES, measured.id_life)),
            ("deleted files", word_of(DELETES, measured.delete)),
            ("letter case", word_of(CASES, measured.case)),
            ("Unicode forms", try_forms(scratch).await?),
            ("longest name", try_length(scratch).await?),
            ("search", try_search(scratch).await?),
        ];
        if let Some(ahead) = self.api.http().clock_skew_s() {
            notes.push(("clock", format!("{ahead} s ahead of this computer's")));
        }
        Ok(Findings { measured, notes })
    }

    /// Uploads twice to one name.
    async fn try_same_name(&self, scratch: &mut Scratch<'_>) -> Result<Known<SameName>> {
        let first = scratch.upload("same.txt").await?;
        let second = match scratch.upload("same.txt").await {
            Ok(second) => second,
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                return Ok(Known::Is(SameName::Rejects));
            }
            Err(error) => return Err(error),
        };
        let (old, new) = (scratch.holder(&first).await?, scratch.holder(&second).await?);
        Ok(match (old, new) {
            (None, Some(new)) if new.name.as_str() == "same.txt" => Known::Is(SameName::Replaces),
            (Some(old), Some(new)) if old.name == new.name => Known::Is(SameName::Duplicates),
            (Some(_), Some(_)) => Known::Is(SameName::AutoRenames),
            (_, _) => Known::Unknown,
        })
    }
}

async fn try_move(scratch: &mut Scratch<'_>) -> Result<Known<IdLife>> {
    let (id, entry) = scratch.file_under("moves.txt").await?;
    scratch.api.create_folder(&scratch.folder(), "below").await?;
    let dest_path = format!("{}/below", scratch.folder());
    let change = Change::Move { dest_path: &dest_path };
    scratch.api.manage(&change, &[Target::File(id)]).await?;
    let below = read_folder(scratch.api, &dest_path).await?;
    let moved = below.entries().find(|e| e.hash == entry.hash).map(|e| e.item.clone());
    // Where it can be found again, and removed.
    if let Some(Id::File(id)) = moved.as_ref().and_then(Id::of) {
        let change = Change::Move { dest_path: &scratch.folder() };
        scratch.api.manage(&change, &[Target::File(id)]).await?;
    }
    Ok(match moved {
        Some(item) if item == entry.item => Known::Is(IdLife::SurvivesMove),
        Some(_) => Known::Is(IdLife::ChangesOnMove),
        None => Known::Unknown,
    })
}

/// A file that can still be looked up has gone somewhere; otherwise nobody can tell.
async fn try_delete(scratch: &mut Scratch<'_>) -> Result<Known<DeleteKind>> {
    let (id, _) = scratch.file_under("deleted.txt").await?;
    scratch.api.manage(&Change::Delete, &[Target::File(id)]).await?;
    match scratch.api.meta(id).await {
        Ok(_) => Ok(Known::Is(DeleteKind::RecycleBin)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Known::Unknown),
        Err(error) => Err(error),
    }
}

/// Asks for a folder by its name in another case: what is in it shows whether it was found.
async fn try_case(scratch: &mut Scratch<'_>) -> Result<Known<CaseRule>> {
    let folder = scratch.folder();
    scratch.api.create_folder(&folder, "CaseFolder").await?;
    let inside = format!("{folder}/CaseFolder");
    scratch.api.create_folder(&inside, "x").await?;
    let found = match read_folder(scratch.api, &format!("{folder}/casefolder")).await {
        Ok(found) => !found.is_empty(),
        Err(error) if error.kind == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let below = read_folder(scratch.api, &inside).await?;
    for entry in below.entries() {
        if let Some(Id::Folder(id)) = Id::of(&entry.item) {
            scratch.api.manage(&Change::Delete, &[Target::Folder(id)]).await?;
        }
    }
    Ok(Known::Is(if found { CaseRule::Insensitive } else { CaseRule::Sensitive }))
}

async fn try_forms(scratch: &mut Scratch<'_>) -> Result<String> {
    let md5 = scratch.upload("e\u{301}.txt").await?;
    let shown = scratch.holder(&md5).await?.map(|entry| entry.name.to_string());
    Ok(match shown.as_deref() {
        Some("e\u{301}.txt") => "kept as they are".to_owned(),
        Some("\u{e9}.txt") => "changed to the composed form".to_owned(),
        Some(_) | None => "changed in some way".to_owned(),
    })
}

async fn try_length(scratch: &mut Scratch<'_>) -> Result<String> {
    for len in [255, 200, 128, 100, 64] {
        match scratch.upload(&"n".repeat(len)).await {
            Ok(_) => return Ok(format!("at least {len} bytes")),
            // The kind of refusal is not documented either.
            Err(error) if error.kind != ErrorKind::Unavailable => {}
            Err(error) => return Err(error),
        }
    }
    Ok("less than 64 bytes".to_owned())
}

async fn try_search(scratch: &mut Scratch<'_>) -> Result<String> {
    let (id, entry) = scratch.file_under(&format!("found-{}.txt", scratch.salt)).await?;
    let found = scratch.api.search(entry.name.as_str()).await?;
    let hit = found.files.iter().any(|row| row["id"].to_string().contains(&id.to_string()));
    let words = if hit { "finds new files at once" } else { "does not find new files at once" };
    Ok(words.to_owned())
}

// ---- keeping it ----------------------------------------------------------------------------------

const SAME_NAMES: &[(SameName, &str)] = &[
    (SameName::Replaces, "replaces"),
    (SameName::AutoRenames, "auto-renames"),
    (SameName::Rejects, "rejects"),
    (SameName::Duplicates, "duplicates"),
];
const ID_LIVES: &[(IdLife, &str)] = &[
    (IdLife::SurvivesMove, "survives-move"),
    (IdLife::ChangesOnMove, "changes-on-move"),
    (IdLife::Synthetic, "synthetic"),
];
const DELETES: &[(DeleteKind, &str)] =
    &[(DeleteKind::RecycleBin, "recycle-bin"), (DeleteKind::Permanent, "permanent")];
const CASES: &[(CaseRule, &str)] =
    &[(CaseRule::Sensitive, "sensitive"), (CaseRule::Insensitive, "insensitive")];

fn word_of<T: PartialEq + Copy>(words: &[(T, &str)], fact: Known<T>) -> String {
    let word = match fact {
        Known::Is(fact) => words.iter().find(|(known, _)| *known == fact).map(|(_, word)| *word),
        Known::Unknown => None,
    };
    word.unwrap_or("unknown").to_owned()
}

fn fact_of<T: Copy>(words: &[(T, &str)], word: &str) -> Known<T> {
    let found = words.iter().find(|(_, known)| *known == word);
    found.map_or(Known::Unknown, |(fact, _)| Known::Is(*fact))
}

/// The form in which what was measured is kept: words, so that a person can read them. A word that
/// nobody knows means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When it was measured, in seconds since the epoch.
    pub measured_s: i64,
    pub same_name: String,
    pub id_life: String,
    pub delete: String,
    pub case: String,
}

impl Record {
    pub fn new(measured: &Measured, measured_s: i64) -> Record {
        Record {
            measured_s,
            same_name: word_of(SAME_NAMES, measured.same_name),
            id_life: word_of(ID_LIVES, measured.id_life),
            delete: word_of(DELETES, measured.delete),
            case: word_of(CASES, measured.case),
        }
    }

    pub fn measured(&self) -> Measured {
        Measured {
            same_name: fact_of(SAME_NAMES, &self.same_name),
            id_life: fact_of(ID_LIVES, &self.id_life),
            delete: fact_of(DELETES, &self.delete),
            case: fact_of(CASES, &self.case),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_kept_in_words_and_nonsense_is_unknown() {
        let measured = Measured {
            same_name: Known::Is(SameName::Duplicates),
            id_life: Known::Is(IdLife::SurvivesMove),
            delete: Known::Unknown,
            case: Known::Is(CaseRule::Insensitive),
        };
        let record = Record::new(&measured, 7);
        let kept = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&kept).unwrap().measured(), measured);
        let odd = r#"{"same_name":"explodes","new":1}"#;
        assert_eq!(serde_json::from_str::<Record>(odd).unwrap().measured(), Measured::NOTHING);
    }
}
