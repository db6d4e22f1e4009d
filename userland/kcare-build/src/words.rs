// SPDX-License-Identifier: GPL-2.0

//! Which words each file of a source tree has, as an index that is made once per kernel.
//!
//! It holds 32-bit hashes, so that it can be searched in a tenth of a second where reading the tree takes
//! many; two words of one hash only lead to one file too many being read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::compile::parallel;

/// The index; files are numbered.
#[derive(Debug)]
pub struct Index {
    /// The head, and for each file: how many hashes, and then the hashes, ascending.
    data: Vec<u32>,
    files: usize,
}

/// First words of the index file; others if its format changes.
const MAGIC: [u32; 2] = [0x6b63_6172, 4];

/// How many words the head has.
const HEAD: usize = 3;

/// What an index begins with: the format, and of which files, in which order, it is.
fn head(paths: &[PathBuf]) -> [u32; HEAD] {
    let names = paths.iter().fold(hash(b""), |h, path| {
        h.rotate_left(5) ^ hash(path.as_os_str().as_encoded_bytes())
    });
    [MAGIC[0], MAGIC[1], names]
}

/// Whether a byte is part of a word.
pub fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// FNV-1a.
pub fn hash(word: &[u8]) -> u32 {
    word.iter().fold(0x811c_9dc5, |h, &b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

/// The hashes of the words of a text, ascending, each once.
fn hashes(text: &[u8]) -> Vec<u32> {
    let mut out: Vec<u32> = text
        .split(|&b| !in_word(b))
        .filter(|w| !w.is_empty())
        .map(hash)
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

impl Index {
    /// Reads the index from `cache`, or makes it from the files `paths`.
    pub fn read(paths: &[PathBuf], cache: &Path) -> Result<Self> {
        if let Ok(bytes) = fs::read(cache) {
            let data: Vec<u32> = bytes
                .chunks_exact(4)
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            if let Some(index) = Self::parse(data, paths) {
                return Ok(index);
            }
        }
        let results: Vec<Mutex<Vec<u32>>> = paths.iter().map(|_| Mutex::default()).collect();
        let numbers: Vec<usize> = (0..paths.len()).collect();
        parallel(&numbers, |&n| {
            let text = fs::read(&paths[n])
                .with_context(|| format!("cannot read {}", paths[n].display()))?;
            *results[n].lock().unwrap_or_else(|e| e.into_inner()) = hashes(&text);
            Ok(())
        })?;
        let mut data = head(paths).to_vec();
        for list in results {
            let list = list.into_inner().unwrap_or_else(|e| e.into_inner());
            data.push(u32::try_from(list.len())?);
            data.extend(list);
        }
        let bytes: Vec<u8> = data.iter().flat_map(|w| w.to_le_bytes()).collect();
        // Losing the cache costs a few seconds, nothing else.
        let temporary = cache.with_extension(std::process::id().to_string());
        if fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, cache))
            .is_err()
        {
            let _ = fs::remove_file(&temporary);
        }
        Self::parse(data, paths).context("malformed index")
    }

    /// Checks that the data has the head of these files, and exactly one list for each.
    fn parse(data: Vec<u32>, paths: &[PathBuf]) -> Option<Self> {
        let head = head(paths);
        let mut rest = data.strip_prefix(&head)?;
        for _ in paths {
            let (&count, tail) = rest.split_first()?;
            rest = tail.get(count as usize..)?;
        }
        rest.is_empty().then_some(Index {
            files: paths.len(),
            data,
        })
    }

    /// The files that may have some of the words, ascending, and which of them.
    pub fn files_with<'a>(
        &self,
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<(usize, Vec<&'a [u8]>)> {
        let mut wanted: HashMap<u32, Vec<&'a [u8]>> = HashMap::new();
        for word in words {
            wanted.entry(hash(word)).or_default().push(word);
        }
        // Most hashes are dismissed by one bit.
        let mut bits = vec![0u64; 1 << 10];
        for &h in wanted.keys() {
            bits[(h >> 22) as usize] |= 1 << ((h >> 16) & 63);
        }
        let may = |h: u32| bits[(h >> 22) as usize] & 1 << ((h >> 16) & 63) != 0;
        let mut out = Vec::new();
        let mut rest = &self.data[HEAD..];
        for file in 0..self.files {
            let (list, tail) = rest[1..].split_at(rest[0] as usize);
            let hits = list
                .iter()
                .filter(|&&h| may(h))
                .filter_map(|h| wanted.get(h));
            let found: Vec<&[u8]> = hits.flatten().copied().collect();
            if !found.is_empty() {
                out.push((file, found));
            }
            rest = tail;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(index: &Index, word: &str) -> Vec<usize> {
        let found = index.files_with([word.as_bytes()].into_iter());
        assert!(found.iter().all(|(_, words)| words == &[word.as_bytes()]));
        found.into_iter().map(|(file, _)| file).collect()
    }

    #[test]
    fn words_are_found_in_the_files_that_have_them() {
        let dir = std::env::temp_dir().join(format!("kcare-words-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let paths = [dir.join("a"), dir.join("b"), dir.join("c")];
        for (path, text) in paths
            .iter()
            .zip(["int foo_1(x##y);", "", "x = foo_1 + bar"])
        {
            fs::write(path, text).unwrap();
        }
        let cache = dir.join("index");
        for _ in ["made", "read"] {
            let index = Index::read(&paths, &cache).unwrap();
            assert_eq!(files(&index, "foo_1"), [0, 2]);
            assert_eq!(files(&index, "bar"), [2]);
            assert!(files(&index, "foo").is_empty());
        }
        // One of other files, or a damaged one, is made again.
        let others = [dir.join("c"), dir.join("b"), dir.join("a")];
        let index = Index::read(&others, &cache).unwrap();
        assert_eq!(files(&index, "bar"), [0]);
        fs::write(&cache, b"kcar").unwrap();
        let index = Index::read(&paths, &cache).unwrap();
        assert_eq!(files(&index, "x"), [0, 2]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
