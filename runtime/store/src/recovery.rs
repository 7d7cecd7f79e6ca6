//! Opening a store so that no acknowledged record is missing in silence.
//!
//! Before fjall opens, the journals are scanned (`journal/`) and held against the side file (`progress.rs`):
//! - all whole: go on;
//! - damaged, but all that was acknowledged lies before the damage: the torn end of an unacknowledged write. It is cut
//!   off and kept beside, since fjall would refuse to open with it, or drop it without a word;
//! - otherwise acknowledged data is missing: refused, unless accepted. Accepting cuts the journals there, too.
//!
//! After fjall opened, its rows are held against what the scan and the side file say, and the log against the rows.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{Database, PersistMode};
use millstream_types::{Offset, PartitionId};

use crate::{
    database,
    error::{DataLoss, OpenError, ReadError, WriteError},
    journal::{self, Damage, Scan},
    keys::{self, COMMIT_KEY, CommitRow, PartitionKey, PartitionRow},
    layout::{self, Contents, Layout, io_error},
    manifest,
    options::Options,
    progress::{self, Advance, History, Progress, Record},
    read,
    reclaim::Floors,
    store::{Keyspaces, Position, Store},
};

/// What happened when a store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the store is new.
    pub created: bool,
    /// Newest commit that is there.
    pub commits: u64,
    /// Bytes of journal that were replayed.
    pub journal_bytes: u64,
    /// The torn end of an unacknowledged write that was cut off: where, and the files that keep it.
    pub torn: Option<Torn>,
    /// Whether the side file was missing or damaged, so that less is known about what was acknowledged.
    pub progress_damaged: bool,
    /// What was acknowledged and is gone, if that was accepted.
    pub loss: Option<DataLoss>,
}

/// The torn end of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The journal that was cut.
    pub journal: PathBuf,
    /// Its length now.
    pub at: u64,
    /// What was wrong there.
    pub reason: String,
    /// The files that hold what was cut off.
    pub kept: Vec<PathBuf>,
}

/// Offsets of a partition that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingRange {
    /// The partition.
    pub partition: PartitionId,
    /// First offset that may be gone; none below it is.
    pub from: Offset,
    /// Offset after the last one that is gone.
    pub to: Offset,
}

impl fmt::Display for MissingRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} offsets {}..{}", self.partition, self.from, self.to)
    }
}

pub(crate) fn open(dir: &Path, options: &Options) -> Result<(Store, Recovery), OpenError> {
    let layout = Layout::lock(dir)?;
    let created = layout.contents()? == Contents::Nothing;
    if created {
        begin(&layout)?;
    } else {
        manifest::check(&layout)?;
    }
    let history = progress::read(&layout.progress)
        .map_err(|error| io_error("read", &layout.progress, error))?
        .unwrap_or(History { damaged: true, ..History::default() });
    let scan = journal::scan(&layout.db).map_err(|error| io_error("read", &layout.db, error))?;
    let mut recovery = Recovery {
        created,
        journal_bytes: scan.bytes,
        progress_damaged: history.damaged,
        ..Recovery::default()
    };
    if history.damaged {
        tracing::warn!(
            file = %layout.progress.display(),
            "the side file is missing or damaged: a loss of the newest acknowledged records might go unnoticed"
        );
    }
    if let Some(damage) = &scan.damage {
        settle_damage(&layout, options, &history, &scan, damage, &mut recovery)?;
    }

    journal::trim(&scan.unwritten).map_err(|error| io_error("trim the journals in", &layout.db, error))?;
    let floors = Arc::new(Floors::default());
    let (db, keyspaces) =
        database::open(&layout.db, options, &floors).map_err(|error| refused(&layout, error))?;
    let unreadable = |source| OpenError::Read { dir: layout.dir.clone(), source };
    let mut partitions = database::partition_rows(&keyspaces).map_err(unreadable)?;
    let sequence = database::commit_row(&keyspaces).map_err(unreadable)?.map_or(0, |row| row.sequence);
    if let Some(evidence) = shortfall(&history, &scan, sequence) {
        let missing = behind(&history, &partitions);
        lost(&layout, options, &mut recovery, sequence, history.synced(), evidence, missing)?;
    }
    let (missing, in_part) = log_shortfall(&keyspaces, &partitions).map_err(unreadable)?;
    for (missing, evidence) in [
        (missing, "the log ends before the partitions' rows"),
        (in_part, "the log goes on behind the partitions' rows, so a commit is there only in part"),
    ] {
        if !missing.is_empty() {
            lost(&layout, options, &mut recovery, sequence, sequence, evidence.to_owned(), missing)?;
        }
    }

    let mut position = Position { sequence, previous: scan.last.unwrap_or(sequence) };
    if recovery.loss.is_some() {
        let repaired = repaired_rows(&keyspaces, &history, &partitions).map_err(unreadable)?;
        let newest = scan.damage.as_ref().map_or(0, |damage| damage.newest);
        position.sequence = sequence.max(history.synced()).max(newest);
        write_repair(&db, &keyspaces, &repaired, &mut position)
            .map_err(|source| OpenError::Repair { dir: layout.dir.clone(), source })?;
        partitions.extend(repaired);
    }
    recovery.commits = position.sequence;
    let progress = start_progress(&layout, &history, &recovery, position, &partitions)
        .map_err(|error| io_error("write", &layout.progress, error))?;
    if created {
        finish(&layout)?;
    }
    let journal_bytes = scan.bytes;
    let opened = Opened { layout, db, keyspaces, floors, partitions, position, journal_bytes, progress };
    Ok((Store::assemble(opened, options), recovery))
}

/// The parts of an open store.
pub(crate) struct Opened {
    pub(crate) layout: Layout,
    pub(crate) db: Database,
    pub(crate) keyspaces: Keyspaces,
    pub(crate) floors: Arc<Floors>,
    pub(crate) partitions: HashMap<PartitionId, PartitionRow>,
    pub(crate) position: Position,
    pub(crate) journal_bytes: u64,
    pub(crate) progress: Progress,
}

/// Begins a store: until it is complete, the file `creating` says that what is there may be thrown away.
fn begin(layout: &Layout) -> Result<(), OpenError> {
    layout::write_atomically(&layout.creating, b"")
        .map_err(|error| io_error("write", &layout.creating, error))?;
    match fs::remove_dir_all(&layout.db) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &layout.db, error));
        }
        _ => {}
    }
    fs::create_dir(&layout.db).map_err(|error| io_error("create", &layout.db, error))?;
    layout.write_format()?;
    let nothing = Record { sequence: 0, advances: BTreeMap::new() };
    Progress::create(&layout.progress, &nothing)
        .map(drop)
        .map_err(|error| io_error("write", &layout.progress, error))
}

/// The store is complete.
fn finish(layout: &Layout) -> Result<(), OpenError> {
    manifest::sync_names(&layout.db).map_err(|error| io_error("sync", &layout.db, error))?;
    let removed = fs::remove_file(&layout.creating).and_then(|()| layout::sync_parent(&layout.creating));
    removed.map_err(|error| io_error("remove", &layout.creating, error))
}

/// Decides whether damage in the journals is a torn end or a loss, and cuts it off.
fn settle_damage(
    layout: &Layout,
    options: &Options,
    history: &History,
    scan: &Scan,
    damage: &Damage,
    recovery: &mut Recovery,
) -> Result<(), OpenError> {
    let acknowledged = history.synced().max(damage.synced);
    let journal = damage.journal.file_name().unwrap_or_default().to_string_lossy();
    let evidence = format!("journal {journal}, byte {}: {}", damage.at, damage.reason);
    // Journals without one whole batch do not tell how far the tables go: that is compared once they are open.
    if let Some(last) = scan.last
        && last < acknowledged
    {
        let missing = beyond(history, scan, damage, last, acknowledged);
        lost(layout, options, recovery, last, acknowledged, evidence, missing)?;
    }
    let kept = journal::cut(damage, &layout.dir).map_err(|error| io_error("cut", &damage.journal, error))?;
    tracing::warn!(
        journal = %damage.journal.display(), at = damage.at, reason = damage.reason, ?kept,
        "cut the journal off behind its last whole batch"
    );
    recovery.torn =
        Some(Torn { journal: damage.journal.clone(), at: damage.at, reason: damage.reason.clone(), kept });
    Ok(())
}

/// Refuses, or notes the loss if that was accepted.
fn lost(
    layout: &Layout,
    options: &Options,
    recovery: &mut Recovery,
    recovered: u64,
    acknowledged: u64,
    evidence: String,
    missing: Vec<MissingRange>,
) -> Result<(), OpenError> {
    let loss = DataLoss { dir: layout.dir.clone(), recovered, acknowledged, evidence, missing };
    if !options.accept_data_loss {
        return Err(loss.into());
    }
    tracing::error!(%loss, "acknowledged data is missing; going on without it, as told");
    match &mut recovery.loss {
        None => recovery.loss = Some(loss),
        Some(first) => {
            first.acknowledged = first.acknowledged.max(loss.acknowledged);
            for range in loss.missing {
                match first.missing.iter_mut().find(|known| known.partition == range.partition) {
                    Some(known) => {
                        known.from = known.from.min(range.from);
                        known.to = known.to.max(range.to);
                    }
                    None => first.missing.push(range),
                }
            }
        }
    }
    Ok(())
}

/// What was acknowledged after `last`, by partition.
fn beyond(
    history: &History,
    scan: &Scan,
    damage: &Damage,
    last: u64,
    acknowledged: u64,
) -> Vec<MissingRange> {
    let mut advances: BTreeMap<PartitionId, Advance> = BTreeMap::new();
    let mut add = |partition, advance: Advance| {
        advances.entry(partition).and_modify(|known| *known = known.then(advance)).or_insert(advance);
    };
    for record in history.records.iter().filter(|record| record.sequence > last) {
        for (partition, advance) in &record.advances {
            // An entry that only says where a partition stands does not say from where it came.
            let from = if advance.from == advance.to { 0 } else { advance.from };
            add(
                *partition,
                if *advance == Advance::DELETED { *advance } else { Advance { from, ..*advance } },
            );
        }
    }
    for (sequence, partition, end) in &damage.ends {
        if *sequence <= acknowledged {
            add(*partition, Advance { from: *end, to: *end });
        }
    }
    let missing = advances.into_iter().filter(|(_, advance)| *advance != Advance::DELETED);
    let missing = missing.map(|(partition, advance)| {
        let from = scan.ends.get(&partition).copied().flatten().unwrap_or(advance.from);
        MissingRange { partition, from, to: advance.to }
    });
    missing.filter(|range| range.from < range.to).collect()
}

/// Whether the database holds less than it must, and how that shows.
fn shortfall(history: &History, scan: &Scan, sequence: u64) -> Option<String> {
    if sequence < history.synced() {
        return Some(format!("the database ends at commit {sequence}"));
    }
    match scan.last {
        Some(last) if sequence < last => {
            Some(format!("the journals reach commit {last}, the database does not"))
        }
        Some(last) if sequence > last => {
            Some(format!("the journals end at commit {last}, the database does not"))
        }
        _ => None,
    }
}

/// Partitions that end before the side file says.
fn behind(history: &History, partitions: &HashMap<PartitionId, PartitionRow>) -> Vec<MissingRange> {
    let ends = history.ends().into_iter().map(|(partition, to)| {
        let from = partitions.get(&partition).map_or(0, |row| row.next_offset);
        MissingRange { partition, from, to }
    });
    ends.filter(|range| range.from < range.to).collect()
}

/// Partitions whose newest batch is not the one that their row names: those that lack it, and those that have another
/// behind it. The latter takes a failed fsync: Linux gives up what that should have written, and a worker that has not
/// heard of it writes the log's newest memtable to the disk.
fn log_shortfall(
    keyspaces: &Keyspaces,
    partitions: &HashMap<PartitionId, PartitionRow>,
) -> Result<(Vec<MissingRange>, Vec<MissingRange>), ReadError> {
    let (mut missing, mut in_part) = (Vec::new(), Vec::new());
    for (partition, row) in partitions {
        let Some(newest) = row.newest.filter(|_| row.low_watermark < row.next_offset) else { continue };
        let found = database::newest_key(keyspaces, *partition)?;
        if found.is_some_and(|found| found.base_offset == newest) {
            continue;
        }
        let end = log_end(keyspaces, *partition)?;
        if end > row.next_offset {
            in_part.push(MissingRange { partition: *partition, from: row.next_offset, to: end });
        } else {
            let from = end.max(row.low_watermark).min(row.next_offset);
            missing.push(MissingRange { partition: *partition, from, to: row.next_offset });
        }
    }
    missing.sort_unstable();
    in_part.sort_unstable();
    Ok((missing, in_part))
}

/// Offset after the newest batch of a partition.
fn log_end(keyspaces: &Keyspaces, partition: PartitionId) -> Result<Offset, ReadError> {
    let Some(at) = database::newest_key(keyspaces, partition)? else { return Ok(0) };
    let end = database::batch(keyspaces, at)?.and_then(|batch| read::next_offset(&batch));
    Ok(end.unwrap_or(at.base_offset + 1))
}

/// Rows that fit the log again. Offsets that were once given are not given again: a partition goes on behind everything
/// that it is known to have held, and the gap stays.
fn repaired_rows(
    keyspaces: &Keyspaces,
    history: &History,
    partitions: &HashMap<PartitionId, PartitionRow>,
) -> Result<HashMap<PartitionId, PartitionRow>, ReadError> {
    let ends = history.ends();
    let mut repaired = partitions.clone();
    // A partition without a row is being removed, or its row is lost: then its id must not be given again.
    let logged = database::logged_partitions(keyspaces)?;
    for partition in logged.into_iter().chain(ends.keys().copied()) {
        let removed = keys::encode(&keys::RemovedPartition(partition));
        if !repaired.contains_key(&partition) && keyspaces.state.get(removed)?.is_none() {
            repaired.insert(partition, PartitionRow::default());
        }
    }
    for (partition, row) in &mut repaired {
        row.newest = database::newest_key(keyspaces, *partition)?.map(|key| key.base_offset);
        let known = ends.get(partition).copied().unwrap_or(0);
        row.next_offset = row.next_offset.max(known).max(log_end(keyspaces, *partition)?);
        row.bytes = database::bytes_from(keyspaces, *partition, row.low_watermark)?;
        if row.compacted > 0 {
            // What compaction deleted may be there again: it begins anew, and what is missing is counted anew.
            let kept = database::records_from(keyspaces, *partition, row.low_watermark)?;
            row.holes = row.next_offset.saturating_sub(row.low_watermark).saturating_sub(kept);
            (row.compacted, row.compacted_ms) = (0, 0);
        }
    }
    Ok(repaired)
}

/// Commits the repaired rows, so that the next open finds everything in agreement.
fn write_repair(
    db: &Database,
    keyspaces: &Keyspaces,
    rows: &HashMap<PartitionId, PartitionRow>,
    position: &mut Position,
) -> Result<(), WriteError> {
    position.sequence += 1;
    let commit = CommitRow {
        sequence: position.sequence,
        previous: position.previous,
        synced: position.sequence - 1,
        seqno_floor: db.seqno(),
    };
    let mut change = db.batch().durability(Some(PersistMode::SyncAll));
    for (partition, row) in rows {
        change.insert(&keyspaces.state, keys::encode(&PartitionKey(*partition)), row.encode());
    }
    change.insert(&keyspaces.state, COMMIT_KEY, commit.encode());
    change.commit().map_err(|error| WriteError::Unknown { cause: error.into() })?;
    position.previous = position.sequence;
    Ok(())
}

/// The side file to go on with: the one there is, unless it has to say something else from now on.
fn start_progress(
    layout: &Layout,
    history: &History,
    recovery: &Recovery,
    position: Position,
    partitions: &HashMap<PartitionId, PartitionRow>,
) -> io::Result<Progress> {
    // fjall synced the journal on opening: all that is there is durable.
    let ends = history.ends();
    let advance = |(partition, row): (&PartitionId, &PartitionRow)| {
        (*partition, Advance { from: row.next_offset, to: row.next_offset })
    };
    if history.damaged || recovery.loss.is_some() {
        let record =
            Record { sequence: position.sequence, advances: partitions.iter().map(advance).collect() };
        return Progress::create(&layout.progress, &record);
    }
    let mut progress = Progress::append_to(&layout.progress)?;
    if history.synced() < position.sequence {
        let mut advances = BTreeMap::new();
        for (partition, row) in partitions {
            let from = ends.get(partition).copied().unwrap_or(0);
            if from != row.next_offset {
                advances.insert(*partition, Advance { from, to: row.next_offset });
            }
        }
        let deleted = ends.keys().filter(|partition| !partitions.contains_key(partition));
        advances.extend(deleted.map(|partition| (*partition, Advance::DELETED)));
        progress.append(position.sequence, &advances)?;
    }
    Ok(progress)
}

fn refused(layout: &Layout, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::Locked { dir: layout.dir.clone() },
        fjall::Error::Io(source) => io_error("open", &layout.db, source),
        error => OpenError::Database { dir: layout.dir.clone(), source: error.into() },
    }
}
