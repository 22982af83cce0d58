//! The bytes of one file on their way from or to the disk.
//!
//! Owns how they are gathered so that a small file needs one visit to the blocking threads each way.
//! Decides nothing about names.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::look::OpenedFile;
use super::os::{Disk, change, visit};
use super::root::Root;
use super::stage::{Part, Stage};
use super::{FileReader, FsError, FsErrorKind, Result, Sealed, StageKey, StageWriter};
use crate::tree::{ContentHash, HashAlgo, Hasher, RelPath, Stamp};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;
/// What is gathered before it is written; a smaller file is written in one visit.
const WRITE_BYTES: usize = 512 * 1024;

// ---- reading -----------------------------------------------------------------------------------

/// An open file and what was read of it ahead.
pub(crate) struct Reader {
    disk: Arc<Disk>,
    file: Arc<OpenedFile>,
    ahead: Bytes,
    /// What is still to be read from the file, if it keeps its size.
    remaining: u64,
    ended: bool,
}

impl Reader {
    /// Opens a file, to be read from the byte `from` on. From its beginning some bytes are read at
    /// once: a small file needs one visit to the disk. Who begins elsewhere may want fewer than those.
    pub(crate) async fn open(
        disk: &Arc<Disk>,
        path: &RelPath,
        expected: &Stamp,
        from: u64,
    ) -> Result<Reader> {
        let (path, expected) = (path.clone(), expected.clone());
        let remaining = expected.size.saturating_sub(from);
        let (file, ahead) = visit(disk, move |disk| {
            let file = disk.root.open_file(&path, &expected)?;
            let ahead = match from {
                0 => Some(file.read_chunk(remaining, READ_BYTES)?),
                _ => None,
            };
            if from > 0 {
                file.seek(from)?;
            }
            Ok((Arc::new(file), ahead))
        })
        .await?;
        let mut reader =
            Reader { disk: Arc::clone(disk), file, ahead: Bytes::new(), remaining, ended: false };
        if let Some(ahead) = ahead {
            reader.take_in(ahead)?;
        }
        Ok(reader)
    }

    /// A file of another length than expected is another version.
    fn take_in(&mut self, chunk: Bytes) -> Result<()> {
        let length = chunk.len() as u64;
        if length > self.remaining || (length == 0 && self.remaining > 0) {
            return Err(self.file.changed());
        }
        self.remaining -= length;
        self.ended = self.remaining == 0;
        self.ahead = chunk;
        Ok(())
    }
}

#[async_trait]
impl FileReader for Reader {
    async fn read(&mut self, max: usize) -> Result<Bytes> {
        if self.ahead.is_empty() && !self.ended {
            let (file, remaining) = (Arc::clone(&self.file), self.remaining);
            let chunk = visit(&self.disk, move |_| file.read_chunk(remaining, max)).await?;
            self.take_in(chunk)?;
        }
        let length = self.ahead.len().min(max);
        Ok(self.ahead.split_to(length))
    }

    async fn verify(&mut self) -> Result<()> {
        let file = Arc::clone(&self.file);
        visit(&self.disk, move |disk| disk.root.verify(&file)).await
    }
}

impl OpenedFile {
    /// Up to `READ_BYTES`, and up to `max` of those that are expected.
    fn read_chunk(&self, remaining: u64, max: usize) -> Result<Bytes> {
        let room = room_for(remaining);
        let room = if (max as u64) < remaining { room.min(max.max(1)) } else { room };
        let mut buffer = BytesMut::zeroed(room);
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        buffer.truncate(filled);
        Ok(buffer.freeze())
    }
}

/// Reads a file to the end, for as long as `wanted` holds, and verifies that it did not change.
pub(super) fn hash_file(
    root: &Root,
    path: &RelPath,
    expected: &Stamp,
    algo: HashAlgo,
    wanted: &AtomicBool,
) -> Result<ContentHash> {
    let file = root.open_file(path, expected)?;
    let mut hasher = Hasher::new(algo);
    let mut buffer = vec![0; room_for(expected.size)];
    let mut remaining = expected.size;
    loop {
        if !wanted.load(Ordering::Relaxed) {
            return Err(FsError::new(FsErrorKind::Io, format!("hash {path}: interrupted")));
        }
        let length = file.read(&mut buffer)?;
        match remaining.checked_sub(length as u64) {
            Some(rest) if length > 0 => remaining = rest,
            Some(0) => break,
            // Shorter or longer than expected: another version.
            Some(_) | None => return Err(file.changed()),
        }
        hasher.update(&buffer[..length]);
    }
    root.verify(&file)?;
    Ok(hasher.finish())
}

/// One byte more than is expected, so that a file that grew is noticed.
fn room_for(remaining: u64) -> usize {
    usize::try_from(remaining).unwrap_or(READ_BYTES).min(READ_BYTES - 1) + 1
}

// ---- writing -----------------------------------------------------------------------------------

/// A file being staged. Nothing is on the disk until enough has gathered or it is sealed.
pub(crate) struct Writer {
    disk: Arc<Disk>,
    stage: Arc<Stage>,
    key: StageKey,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    part: PartState,
}

enum PartState {
    NotBegun,
    Begun(Part),
    /// An earlier write failed, or its caller went away: what is on the disk is not known.
    Broken,
}

impl Writer {
    pub(crate) fn new(disk: &Arc<Disk>, stage: &Arc<Stage>, key: StageKey) -> Writer {
        Writer {
            disk: Arc::clone(disk),
            stage: Arc::clone(stage),
            key,
            gathered: Vec::new(),
            gathered_bytes: 0,
            part: PartState::NotBegun,
        }
    }

    /// Goes on at the end of what is there.
    pub(super) fn resume(
        disk: &Arc<Disk>,
        stage: &Arc<Stage>,
        key: StageKey,
        part: Part,
    ) -> Writer {
        Writer { part: PartState::Begun(part), ..Writer::new(disk, stage, key) }
    }

    /// The work of bringing everything gathered so far to the disk.
    fn write_out(&mut self) -> impl FnOnce(&Disk) -> Result<Part> + Send + 'static {
        let chunks = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let part = std::mem::replace(&mut self.part, PartState::Broken);
        let (stage, key) = (Arc::clone(&self.stage), self.key);
        move |disk| {
            let mut part = match part {
                PartState::NotBegun => stage.create(&disk.root, key)?,
                PartState::Begun(part) => part,
                PartState::Broken => {
                    let context = format!("stage {}: an earlier write failed", key.0);
                    return Err(FsError::new(FsErrorKind::Io, context));
                }
            };
            part.write(&chunks)?;
            Ok(part)
        }
    }
}

#[async_trait]
impl StageWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.gathered_bytes += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_bytes >= WRITE_BYTES {
            let work = self.write_out();
            self.part = PartState::Begun(visit(&self.disk, work).await?);
        }
        Ok(())
    }

    async fn seal(mut self: Box<Self>, mtime: Option<i64>) -> Result<Sealed> {
        let work = self.write_out();
        let disk = Arc::clone(&self.disk);
        change(&disk, move |disk| work(disk)?.seal(&disk.root, mtime)).await
    }
}
