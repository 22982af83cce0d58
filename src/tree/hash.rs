//! Content hashes: what a file's bytes are known to be.
//!
//! Owns the algorithms and their text forms. Never opens a file; callers feed it bytes.

use std::fmt;

use md5::Digest;
use serde::{Deserialize, Serialize};

/// The algorithms that a remote may report, plus the one used where a remote reports none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgo {
    Md5,
    Sha1,
    /// Used for remotes without a hash of their own: two files that collide would be taken for one.
    Sha256,
}

/// The hash of one file's complete content. In records its hexadecimal digits, whose number tells the
/// algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ContentHash {
    Md5([u8; 16]),
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl ContentHash {
    pub fn algo(&self) -> HashAlgo {
        match self {
            ContentHash::Md5(_) => HashAlgo::Md5,
            ContentHash::Sha1(_) => HashAlgo::Sha1,
            ContentHash::Sha256(_) => HashAlgo::Sha256,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            ContentHash::Md5(b) => b,
            ContentHash::Sha1(b) => b,
            ContentHash::Sha256(b) => b,
        }
    }

    /// Rebuilds a hash from its algorithm and raw bytes; `None` if the length does not fit.
    pub fn from_bytes(algo: HashAlgo, bytes: &[u8]) -> Option<ContentHash> {
        match algo {
            HashAlgo::Md5 => bytes.try_into().ok().map(ContentHash::Md5),
            HashAlgo::Sha1 => bytes.try_into().ok().map(ContentHash::Sha1),
            HashAlgo::Sha256 => bytes.try_into().ok().map(ContentHash::Sha256),
        }
    }

    /// Reads a hexadecimal hash, in either case; `None` if it is not one of that algorithm.
    pub fn from_hex(algo: HashAlgo, hex: &str) -> Option<ContentHash> {
        if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
            .collect();
        ContentHash::from_bytes(algo, &bytes?)
    }

    /// Lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        self.bytes().iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> String {
        hash.hex()
    }
}

impl TryFrom<String> for ContentHash {
    type Error = &'static str;

    fn try_from(hex: String) -> Result<ContentHash, &'static str> {
        let algos = [HashAlgo::Md5, HashAlgo::Sha1, HashAlgo::Sha256];
        let hash = algos.into_iter().find_map(|algo| ContentHash::from_hex(algo, &hex));
        hash.ok_or("no content hash")
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.algo(), &self.hex()[..12])
    }
}

/// Hashes a stream of chunks.
#[derive(Clone)]
pub enum Hasher {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

impl Hasher {
    pub fn new(algo: HashAlgo) -> Hasher {
        match algo {
            HashAlgo::Md5 => Hasher::Md5(md5::Md5::new()),
            HashAlgo::Sha1 => Hasher::Sha1(sha1::Sha1::new()),
            HashAlgo::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
        }
    }

    pub fn update(&mut self, chunk: &[u8]) {
        match self {
            Hasher::Md5(h) => h.update(chunk),
            Hasher::Sha1(h) => h.update(chunk),
            Hasher::Sha256(h) => h.update(chunk),
        }
    }

    pub fn finish(self) -> ContentHash {
        match self {
            Hasher::Md5(h) => ContentHash::Md5(h.finalize().into()),
            Hasher::Sha1(h) => ContentHash::Sha1(h.finalize().into()),
            Hasher::Sha256(h) => ContentHash::Sha256(h.finalize().into()),
        }
    }

    /// The hash of bytes that are all in memory.
    pub fn of(algo: HashAlgo, bytes: &[u8]) -> ContentHash {
        let mut hasher = Hasher::new(algo);
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_a_known_text_are_the_published_ones() {
        let hex = |algo| Hasher::of(algo, b"abc").hex();
        assert_eq!(hex(HashAlgo::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(HashAlgo::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(hex(HashAlgo::Sha256).starts_with("ba7816bf8f01cfea"));
    }

    #[test]
    fn hexadecimal_of_the_wrong_length_or_alphabet_is_no_hash() {
        for bad in ["", "00", "zz0150983cd24fb0d6963f7d28e17f72", "é00150983cd24fb0d6963f7d28e17f7"]
        {
            assert_eq!(ContentHash::from_hex(HashAlgo::Md5, bad), None, "{bad}");
        }
        let upper = "900150983CD24FB0D6963F7D28E17F72";
        let hash = ContentHash::from_hex(HashAlgo::Md5, upper).unwrap();
        assert_eq!(hash.hex(), upper.to_lowercase());
    }
}
