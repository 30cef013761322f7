//! What fuzzing runs of a work tree's rows and journal (`fuzz/`): panics where something does
//! not hold.

use super::codec::{self, ContentRow};
use super::durability::Durability;
use super::journal::{Journal, Mark};
use super::node::{Content, What};
use super::rows::Row;
use super::small::Small;
use std::cell::OnceCell;
use std::path::PathBuf;

/// Heap that rows may take: copied out, and encoded again.
pub fn rows_bound(data: &[u8]) -> usize {
    (16 << 10) + 32 * data.len()
}

/// A row is so in one way only: encoded again it has the same bytes; and so have the nodes
/// and outcomes in it.
pub fn rows(data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() {
        let before = rest;
        let Ok(row) = Row::decode(&mut rest) else {
            return;
        };
        let mut again = Vec::new();
        row.encode(&mut again);
        assert_eq!(again, before[..before.len() - rest.len()], "encoded again");
        match &row {
            Row::Node { data, .. } => node(data),
            Row::Reply { data, .. } => {
                if let Ok(changed) = codec::decode_changed(data) {
                    assert_eq!(&codec::encode_changed(&changed), data, "the outcome");
                }
            }
            _ => {}
        }
    }
}

fn node(data: &[u8]) {
    let Ok((mut node, content)) = codec::decode_node(data) else {
        return;
    };
    match content {
        Some(ContentRow::Blob { digest, size }) => {
            node.what = What::File(Content::blob(digest, size));
        }
        // Its times are the staged file's.
        Some(ContentRow::Staged { .. }) => return,
        // Of an older format, which is not written any more.
        Some(ContentRow::Inline { size: None }) => return,
        Some(ContentRow::Inline { size: Some(size) }) => {
            let smalls = super::small::Smalls::new(PathBuf::new());
            node.what = What::File(Content::Inline(Small::lost(&smalls, size)));
        }
        None => {}
    }
    assert_eq!(codec::encode_node(&node), data, "the node, encoded again");
}

/// A journal's place, one a thread.
fn place() -> PathBuf {
    thread_local! {
        static PLACE: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
    }
    PLACE.with(|place| {
        // In memory where there is such a place: each input is a few files there.
        let shm = std::path::Path::new("/dev/shm");
        let made = || match shm.is_dir() {
            true => tempfile::tempdir_in(shm),
            false => tempfile::tempdir(),
        };
        let new = || match made() {
            Ok(dir) => dir,
            Err(e) => panic!("no temporary directory: {e}"),
        };
        place.get_or_init(new).path().to_path_buf()
    })
}

/// Heap that a journal may take: its frames, one at a time, and its rows.
pub fn journal_bound(data: &[u8]) -> usize {
    (64 << 10) + 40 * data.len()
}

/// Two files made of `data`: whole frames, and then what is none. What is read is the rows of
/// the whole frames that `work.db` lacks, and a row that is appended then is read behind them.
pub fn journal(data: &[u8]) {
    let Some(([applied, first, second, offset], mut rest)) = data.split_first_chunk() else {
        return;
    };
    let applied = Mark {
        generation: u64::from(applied % 4),
        // Far beyond the file, and inside it.
        offset: if *offset == 255 {
            u64::MAX
        } else {
            u64::from(*offset) * 3
        },
    };
    let generations = [u64::from(first % 8), u64::from(second % 8)];
    let mut files = generations.map(Made::new);
    while let Some(([how, high, low], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (bytes, after) = after.split_at(len.min(after.len()));
        rest = after;
        files[usize::from(how % 2)].add(how >> 1, bytes);
    }
    let dir = place();
    for (at, file) in files.iter().enumerate() {
        if let Err(e) = std::fs::write(dir.join(format!("work.journal.{at}")), &file.bytes) {
            panic!("{e}");
        }
    }
    // The later turn is read last; where both are one, the first file's.
    let current = usize::from(generations[1] > generations[0]);
    let order = [&files[1 - current], &files[current]];
    // A frame may begin anywhere where a carried-over mark says so.
    let known = |file: &Made| file.generation != applied.generation;
    let needed: Vec<&Made> = order
        .into_iter()
        .filter(|f| f.generation > applied.generation && f.generation > 0)
        .collect();
    let broken = needed.iter().any(|file| file.broken);
    match Journal::open(&dir, Durability::Boot, applied) {
        Err(_) if order.into_iter().all(known) => assert!(broken, "a good journal is refused"),
        Err(_) => {}
        Ok((mut journal, rows)) => {
            if order.into_iter().all(known) {
                assert!(!broken, "a broken row was taken");
                let want: Vec<&Row> = needed.iter().flat_map(|f| &f.rows).collect();
                assert_eq!(rows.iter().collect::<Vec<_>>(), want, "the rows");
            }
            let new = Row::Reserved {
                tree: 1,
                reserved: u64::from(*first),
            };
            let new = [new];
            assert!(journal.append(&new).is_ok(), "a row is not taken");
            drop(journal);
            let Ok((_, again)) = Journal::open(&dir, Durability::Boot, applied) else {
                panic!("what was appended broke the journal")
            };
            let (last, before) = again.split_last().unwrap_or((&new[0], &[]));
            assert_eq!(last, &new[0], "what was appended");
            assert_eq!(before, rows, "what was there before");
        }
    }
}

/// A journal's file as it is made up.
struct Made {
    generation: u64,
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// A whole frame holds what is no row: damage, which is told.
    broken: bool,
    /// Something that is no frame ends what is read.
    ended: bool,
}

const SALT: u64 = 0x5a17;

impl Made {
    fn new(generation: u64) -> Made {
        Made {
            generation,
            bytes: super::journal::fuzz_header(generation, SALT),
            rows: Vec::new(),
            broken: false,
            ended: false,
        }
    }

    fn add(&mut self, how: u8, bytes: &[u8]) {
        // What is behind a torn frame was never written.
        if self.ended || self.broken {
            return;
        }
        if how % 4 == 1 {
            self.ended = true;
            return self.bytes.extend_from_slice(bytes);
        }
        if bytes.is_empty() {
            return;
        }
        let frame = super::journal::fuzz_frame(self.generation, SALT, bytes);
        match how % 4 {
            2 => {
                self.ended = true;
                self.bytes.extend_from_slice(&frame[..frame.len() - 1]);
            }
            3 => {
                // Of an earlier turn.
                let other = super::journal::fuzz_frame(self.generation, SALT + 1, bytes);
                self.ended = true;
                self.bytes.extend_from_slice(&other);
            }
            _ => {
                self.bytes.extend_from_slice(&frame);
                let mut rest = bytes;
                while !rest.is_empty() {
                    match Row::decode(&mut rest) {
                        Ok(row) => self.rows.push(row),
                        Err(_) => return self.broken = true,
                    }
                }
            }
        }
    }
}
