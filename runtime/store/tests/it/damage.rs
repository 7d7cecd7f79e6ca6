//! Damaged journals: a torn end opens, an acknowledged loss is refused with its exact extent, nothing is silent.

use std::{fs, path::Path};

use millstream_store::{
    Compacted, DataLoss, MissingRange, OpenError, Options, Persist, Recovery, Rewrite, Store,
};

use crate::harness::{P0, P1, check_whole, copy, journal, open, publish, trim_journal};

/// A closed store: three synced commits of 10 records each to partition 0 and one of 4 to partition 1, and where in the
/// journal each of the four ends.
fn sample(dir: &Path) -> Vec<usize> {
    let (store, _) = open(dir);
    let mut ends = Vec::new();
    for partition in [P0, P0, P1, P0] {
        publish(&store, partition, if partition == P0 { 10 } else { 4 }, 20, Persist::Sync);
        ends.push(journal(dir).1);
    }
    drop(store);
    trim_journal(dir);
    ends
}

fn damaged(whole: &Path, work: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
    let _ = fs::remove_dir_all(work);
    copy(whole, work);
    let (path, _) = journal(work);
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn loss(dir: &Path) -> DataLoss {
    match Store::open(dir, &Options::default()) {
        Err(OpenError::DataLoss(loss)) => loss,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    }
}

fn accept(dir: &Path) -> (Store, Recovery) {
    Store::open(dir, &Options { accept_data_loss: true, ..Options::default() }).unwrap()
}

#[test]
fn a_torn_unacknowledged_end_is_cut_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, work) = (dir.path().join("whole"), dir.path().join("work"));
    let ends = sample(&whole);
    // Power loss: the last commit was not acknowledged, so the side file does not know it, and a page of it is zero.
    for (from, to) in [(ends[2] + 1, ends[3]), (ends[3] - 40, ends[3]), (ends[2] + 30, ends[2] + 90)] {
        damaged(&whole, &work, |bytes| bytes[from..to].fill(0));
        forget_last_record(&work);
        let (store, recovery) = open(&work);
        let torn = recovery.torn.unwrap();
        assert_eq!((torn.at, torn.kept.len()), (ends[2] as u64, 1));
        assert!(fs::read(&torn.kept[0]).unwrap().len() <= ends[3] - ends[2]);
        assert_eq!([check_whole(&store, P0), check_whole(&store, P1)], [20, 4]);
        publish(&store, P0, 10, 20, Persist::Sync);
        drop(store);
        let (store, recovery) = open(&work);
        assert_eq!((recovery.torn, recovery.loss), (None, None));
        assert_eq!(check_whole(&store, P0), 30);
    }
}

/// Makes the side file older by one record.
fn forget_last_record(dir: &Path) {
    let path = dir.join("progress");
    let bytes = fs::read(&path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 36]).unwrap();
}

#[test]
fn a_torn_acknowledged_end_is_refused_until_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, work) = (dir.path().join("whole"), dir.path().join("work"));
    let ends = sample(&whole);
    for cut in [ends[3] - 1, ends[2] + 13, ends[2]] {
        damaged(&whole, &work, |bytes| bytes[cut..].fill(0));
        for _ in 0..2 {
            let loss = loss(&work);
            assert_eq!(loss.missing, [MissingRange { partition: P0, from: 20, to: 30 }], "{loss}");
            assert_eq!((loss.recovered, loss.acknowledged), (3, 4));
            assert!(loss.to_string().contains("partition 0 offsets 20..30"), "{loss}");
        }
        let (store, recovery) = accept(&work);
        assert_eq!(recovery.loss.unwrap().missing, [MissingRange { partition: P0, from: 20, to: 30 }]);
        assert_eq!(store.partition(P0).unwrap().next_offset, 30, "no offset is given twice");
        let sizes = store.sizes(P0, 0, u64::MAX).map(|size| size.unwrap().1);
        assert_eq!(store.partition(P0).unwrap().bytes, sizes.sum::<u64>(), "what is lost is not counted");
        publish(&store, P0, 5, 20, Persist::Sync);
        drop(store);
        let (store, recovery) = open(&work);
        assert_eq!((recovery.torn, recovery.loss), (None, None));
        let bases: Vec<_> =
            store.read(P0, 0, 99, usize::MAX).unwrap().iter().map(|batch| batch.base_offset).collect();
        assert_eq!(bases, [0, 10, 30]);
        assert_eq!(check_whole(&store, P1), 4);
    }
}

/// Behind an accepted loss it is not known what compaction did: it begins anew, and what is missing is counted.
#[test]
fn a_compacted_partition_begins_anew_behind_an_accepted_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, work) = (dir.path().join("whole"), dir.path().join("work"));
    let (store, _) = open(&whole);
    for _ in 0..3 {
        publish(&store, P0, 10, 20, Persist::Sync);
    }
    let mut batch = store.batch();
    let rewrites = vec![Rewrite { base_offset: 10, bytes: None }];
    batch.compact(P0, Compacted { rewrites, records: 10, below: Some((20, 7)), ..Compacted::default() });
    store.commit(batch, Persist::Sync).unwrap();
    let end = journal(&whole).1;
    publish(&store, P0, 10, 20, Persist::Sync);
    drop(store);
    trim_journal(&whole);
    damaged(&whole, &work, |bytes| bytes[end..].fill(0));
    assert_eq!(loss(&work).missing, [MissingRange { partition: P0, from: 30, to: 40 }]);
    let row = accept(&work).0.partition(P0).unwrap();
    assert_eq!((row.next_offset, row.records(), row.holes), (40, 20, 20));
    assert_eq!((row.compacted, row.compacted_ms), (0, 0));
}

#[test]
fn damage_in_the_middle_lists_all_that_lies_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, work) = (dir.path().join("whole"), dir.path().join("work"));
    let ends = sample(&whole);
    damaged(&whole, &work, |bytes| bytes[ends[0] + 40] ^= 1);
    let expected =
        [MissingRange { partition: P0, from: 10, to: 30 }, MissingRange { partition: P1, from: 0, to: 4 }];
    assert_eq!(loss(&work).missing, expected);

    // Without the side file, the journal itself proves that what precedes its last commit was acknowledged.
    fs::remove_file(work.join("progress")).unwrap();
    let loss = loss(&work);
    assert_eq!(loss.acknowledged, 3, "{loss}");
    let (store, recovery) = accept(&work);
    assert!(recovery.progress_damaged);
    assert_eq!(check_whole_prefix(&store), 10);
    drop(store);
    assert_eq!(open(&work).1.loss, None);
}

fn check_whole_prefix(store: &Store) -> u64 {
    let batches = store.read(P0, 0, u64::MAX, usize::MAX).unwrap();
    assert_eq!(batches.len(), 1);
    millstream_types::BatchView::new(&batches[0].bytes, millstream_types::Check::Full).unwrap().next_offset()
}

#[test]
fn a_lost_journal_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    fs::remove_file(journal(dir.path()).0).unwrap();
    let loss = loss(dir.path());
    assert_eq!((loss.recovered, loss.acknowledged), (0, 4));
    let expected =
        [MissingRange { partition: P0, from: 0, to: 30 }, MissingRange { partition: P1, from: 0, to: 4 }];
    assert_eq!(loss.missing, expected);
    let (store, _) = accept(dir.path());
    publish(&store, P0, 1, 20, Persist::Sync);
    assert_eq!(store.read(P0, 0, 99, usize::MAX).unwrap()[0].base_offset, 30);
    drop(store);
    assert_eq!(open(dir.path()).1.loss, None);
}

/// The sample with each of its commits in a journal of its own.
fn split_sample(dir: &Path) {
    let ends = sample(dir);
    let (path, _) = journal(dir);
    let bytes = fs::read(&path).unwrap();
    let mut start = 0;
    for (index, end) in ends.into_iter().enumerate() {
        // Sealed journals may end in zeros, too.
        let frame = [&bytes[start..end], &[0; 100]].concat();
        fs::write(path.with_file_name(format!("{index}.jnl")), frame).unwrap();
        start = end;
    }
}

#[test]
fn commits_spread_over_journals_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    split_sample(dir.path());
    let (store, recovery) = open(dir.path());
    assert_eq!((recovery.torn, recovery.loss), (None, None));
    assert_eq!([check_whole(&store, P0), check_whole(&store, P1)], [30, 4]);
    publish(&store, P1, 4, 20, Persist::Sync);
    drop(store);
    assert_eq!(check_whole(&open(dir.path()).0, P1), 8);
}

#[test]
fn damage_in_an_older_journal_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    split_sample(&whole);
    let older = whole.join("db/1.jnl");
    let bytes = fs::read(&older).unwrap();
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        Some(bytes)
    };
    let all_zero = Some(vec![0; bytes.len()]);
    for (index, damage) in [None, all_zero, flipped(0), flipped(60)].into_iter().enumerate() {
        let work = dir.path().join(format!("work-{index}"));
        copy(&whole, &work);
        match damage {
            Some(bytes) => fs::write(work.join("db/1.jnl"), bytes).unwrap(),
            None => fs::remove_file(work.join("db/1.jnl")).unwrap(),
        }
        let loss = loss(&work);
        let expected = [
            MissingRange { partition: P0, from: 10, to: 30 },
            MissingRange { partition: P1, from: 0, to: 4 },
        ];
        assert_eq!(loss.missing, expected, "{loss}");
        let (store, recovery) = accept(&work);
        assert!(!recovery.torn.unwrap().kept.is_empty());
        publish(&store, P0, 1, 20, Persist::Sync);
        drop(store);
        let (store, recovery) = open(&work);
        assert_eq!((recovery.torn, recovery.loss), (None, None));
        let bases: Vec<_> =
            store.read(P0, 0, 99, usize::MAX).unwrap().iter().map(|batch| batch.base_offset).collect();
        assert_eq!(bases, [0, 30]);
    }
}

#[test]
fn a_lost_side_file_alone_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    fs::remove_file(dir.path().join("progress")).unwrap();
    let (store, recovery) = open(dir.path());
    assert!(recovery.progress_damaged);
    assert_eq!([check_whole(&store, P0), check_whole(&store, P1)], [30, 4]);
    drop(store);
    assert!(!open(dir.path()).1.progress_damaged);
}

#[test]
fn a_flipped_bit_anywhere_in_the_journal_is_never_silent() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, work) = (dir.path().join("whole"), dir.path().join("work"));
    let ends = sample(&whole);
    let end = *ends.last().unwrap();
    // Every bit is swept in `journal::scan`'s own tests; this drives some of them through a real open.
    let starts = [0, ends[0], ends[1], ends[2]];
    let frames = starts.iter().flat_map(|start| [0, 1, 5, 13, 14, 16, 24, 26, 30].map(|at| start + at));
    let trailers = ends.iter().flat_map(|end| [1, 4, 5, 13].map(|back| end - back));
    let (mut refused, mut whole_after_all) = (0, 0);
    for (index, at) in frames.chain(trailers).filter(|at| *at < end).enumerate() {
        damaged(&whole, &work, |bytes| bytes[at] ^= 1 << (index % 8));
        match Store::open(&work, &Options::default()) {
            Err(OpenError::DataLoss(loss)) => {
                assert!(!loss.missing.is_empty(), "{loss}");
                refused += 1;
            }
            Err(error) => panic!("flip at {at}: {error}"),
            Ok((store, _)) => {
                assert_eq!([check_whole(&store, P0), check_whole(&store, P1)], [30, 4], "flip at {at}");
                whole_after_all += 1;
            }
        }
    }
    assert!(refused > 40, "{refused} refused, {whole_after_all} whole");
}
