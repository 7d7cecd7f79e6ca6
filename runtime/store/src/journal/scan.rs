//! Reading all journals in order: what is whole, where the first damage is, and what can still be told of what lies
//! beyond it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use millstream_types::{Offset, PartitionId};
use rustix::{fs::SeekFrom, io::Errno};

use super::frame::{self, Frame, NoFrame};

/// What the journals hold, up to the first damage.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Bytes of whole batches.
    pub(crate) bytes: u64,
    /// Newest whole commit; `None` if the journals hold none.
    pub(crate) last: Option<u64>,
    /// Ends of the partitions that the journals mention; `None`: deleted.
    pub(crate) ends: BTreeMap<PartitionId, Option<Offset>>,
    pub(crate) damage: Option<Damage>,
    /// Journals with space that was allocated ahead and never written, and where it starts.
    pub(crate) unwritten: Vec<(PathBuf, u64)>,
    last_seqno: u64,
}

/// The first place at which the journals are not whole.
#[derive(Debug)]
pub(crate) struct Damage {
    /// The journal, and the end of its last whole batch.
    pub(crate) journal: PathBuf,
    pub(crate) at: u64,
    pub(crate) reason: String,
    /// Journals behind it.
    pub(crate) later: Vec<PathBuf>,
    /// What batches beyond the damage tell: commits that were durable when they were written,
    pub(crate) synced: u64,
    /// the newest commit seen,
    pub(crate) newest: u64,
    /// and the ends of partitions, by the commit that moved them.
    pub(crate) ends: Vec<(u64, PartitionId, Offset)>,
}

/// Scans the journals in the database directory `db`.
pub(crate) fn scan(db: &Path) -> io::Result<Scan> {
    let journals = list(db)?;
    let mut scan = Scan::default();
    let mut before: Option<(u64, &Path, u64)> = None;
    for (index, (id, path)) in journals.iter().enumerate() {
        let later = |from: usize| journals.iter().skip(from).map(|(_, path)| path.clone()).collect();
        if let Some((before, path, end)) = before
            && before + 1 != *id
        {
            scan.damaged(path, end, format!("journal {} is missing", before + 1), later(index));
        } else {
            let (end, fault) = scan.journal(path)?;
            if let Some(reason) = fault {
                scan.damaged(path, end, reason.to_owned(), later(index + 1));
            }
            before = Some((*id, path, end));
        }
        if let Some(damage) = &mut scan.damage {
            damage.look_beyond(scan.last)?;
            break;
        }
    }
    Ok(scan)
}

/// Journals by number, oldest first.
fn list(db: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(db)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            journals.push((id, path));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

impl Scan {
    /// Reads one journal; returns where its last whole batch ends, and what is wrong there.
    fn journal(&mut self, path: &Path) -> io::Result<(u64, Option<&'static str>)> {
        let mut window = Window::open(path)?;
        loop {
            match window.bytes().first().copied() {
                None if !window.fill()? => return Ok((window.start, None)),
                None => {}
                // fjall allocates journals ahead: zeros up to the end are no damage.
                Some(0) => {
                    let start = window.start;
                    if !window.rest_is_zero()? {
                        return Ok((start, Some("no batch starts here")));
                    }
                    self.unwritten.push((path.to_owned(), start));
                    return Ok((start, None));
                }
                Some(_) => match frame::read(window.bytes()) {
                    Ok(frame) => {
                        if let Err(fault) = self.follow(&frame) {
                            return Ok((window.start, Some(fault)));
                        }
                        window.consume(frame.bytes);
                    }
                    Err(NoFrame::Cut) if window.fill()? => {}
                    Err(NoFrame::Cut) => return Ok((window.start, Some("a batch is cut off"))),
                    Err(NoFrame::Invalid(fault)) => return Ok((window.start, Some(fault))),
                },
            }
        }
    }

    /// Takes in a batch that must follow the one before.
    fn follow(&mut self, frame: &Frame) -> Result<(), &'static str> {
        if self.last.is_some_and(|last| last != frame.commit.previous) {
            return Err("a batch is missing before this one");
        }
        if self.last.is_some() && frame.seqno <= self.last_seqno {
            return Err("the sequence number of a batch is damaged");
        }
        self.last = Some(frame.commit.sequence);
        self.last_seqno = frame.seqno;
        self.bytes += frame.bytes as u64;
        self.ends.extend(frame.ends.iter().copied());
        Ok(())
    }

    fn damaged(&mut self, journal: &Path, at: u64, reason: String, later: Vec<PathBuf>) {
        let journal = journal.to_owned();
        self.damage = Some(Damage { journal, at, reason, later, synced: 0, newest: 0, ends: Vec::new() });
    }
}

impl Damage {
    /// Looks for whole batches anywhere behind the damage: they prove what was there.
    fn look_beyond(&mut self, last: Option<u64>) -> io::Result<()> {
        self.look_through(&self.journal.clone(), self.at, last)?;
        for path in self.later.clone() {
            self.look_through(&path, 0, last)?;
        }
        Ok(())
    }

    fn look_through(&mut self, path: &Path, from: u64, last: Option<u64>) -> io::Result<()> {
        let bytes = fs::read(path)?;
        let mut rest = usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
        while let Some(skip) = rest.iter().position(|byte| *byte == 1) {
            rest = rest.get(skip..).unwrap_or_default();
            let step = match frame::read(rest) {
                Ok(frame) if plausible(&frame, last) => {
                    self.saw(&frame);
                    frame.bytes
                }
                _ => 1,
            };
            rest = rest.get(step..).unwrap_or_default();
        }
        Ok(())
    }

    fn saw(&mut self, frame: &Frame) {
        self.synced = self.synced.max(frame.commit.synced);
        self.newest = self.newest.max(frame.commit.sequence);
        for (partition, end) in &frame.ends {
            self.ends.extend(end.map(|end| (frame.commit.sequence, *partition, end)));
        }
    }
}

/// A record may hold bytes that look like a batch: only one whose commit could follow is believed.
fn plausible(frame: &Frame, last: Option<u64>) -> bool {
    let commit = &frame.commit;
    let follows = |last| commit.sequence > last && commit.sequence - last < COMMITS_BEYOND_MAX;
    commit.synced < commit.sequence && commit.previous < commit.sequence && last.is_none_or(follows)
}

/// More commits than journals of bounded size can hold.
const COMMITS_BEYOND_MAX: u64 = 1 << 32;

/// A stretch of a file in memory, long enough for the batch at its start.
struct Window {
    file: File,
    buffer: Vec<u8>,
    /// What of the buffer is consumed.
    consumed: usize,
    /// Position in the file of the first byte not consumed.
    start: u64,
}

const FILL_BYTES: usize = 64 << 10;

impl Window {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, buffer: Vec::new(), consumed: 0, start: 0 })
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.consumed..).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count;
        self.start += count as u64;
    }

    /// Reads on; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        // Doubling, so that a long batch is not parsed anew too often.
        let wanted = FILL_BYTES.max(self.buffer.len()) as u64;
        Ok((&self.file).take(wanted).read_to_end(&mut self.buffer)? > 0)
    }

    fn rest_is_zero(&mut self) -> io::Result<bool> {
        loop {
            if self.bytes().iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.consume(self.bytes().len());
            if !self.skip_hole()? || !self.fill()? {
                return Ok(true);
            }
        }
    }

    /// Goes on where the file has data again: what was allocated and never written is not read. False if nowhere.
    fn skip_hole(&mut self) -> io::Result<bool> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(self.start)) {
            Ok(at) => {
                self.start = at;
                Ok(true)
            }
            Err(Errno::NXIO) => Ok(false),
            // A file system that knows no holes: everything is read.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counter, Options, Persist, Store};

    #[test]
    fn every_flipped_bit_is_noticed_or_harmless() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
            for round in 0..4u64 {
                let mut batch = store.batch();
                batch.append(PartitionId(3), round * 2, round * 2 + 2, vec![1; 40].into());
                batch.put(&Counter(1), vec![round as u8; 20]);
                store.commit(batch, Persist::Sync).unwrap();
            }
        }
        let journal = dir.path().join("db/0.jnl");
        let mut bytes = fs::read(&journal).unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("0.jnl");
        fs::write(&path, &bytes).unwrap();
        let whole = scan(work.path()).unwrap();
        assert!(whole.damage.is_none());
        assert_eq!((whole.last, whole.bytes), (Some(4), bytes.len() as u64));
        assert_eq!(whole.ends.get(&PartitionId(3)), Some(&Some(8)));

        let mut harmless = 0;
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let found = scan(work.path()).unwrap();
            if found.damage.is_none() {
                // Only the low bits of a frame's number may change unseen, within what its neighbours and its commit
                // row allow: the order of the commits stays.
                assert_eq!((found.last, found.bytes, &found.ends), (whole.last, whole.bytes, &whole.ends));
                harmless += 1;
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(harmless <= 4 * 16, "{harmless} flips went unseen");
    }
}
