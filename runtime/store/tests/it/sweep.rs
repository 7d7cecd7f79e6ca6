//! Every file of a closed store, damaged in every way: bits flipped, cut short, gone. Either that is said, at opening or
//! at reading, or everything is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use millstream_store::{Module, ModuleBlob, OpenError, Options, PartitionId, Persist, Store};
use millstream_types::{BatchView, Check, ModuleName};

use crate::{
    harness::{P0, Random, append, check_whole, copy, journal, open, publish, rounds_times, trim_journal},
    workload::{self, Load, hush, run},
};

const COMMITS: u64 = 46;

/// A closed store with something in each kind of file: journal, tables, blobs, versions.
fn sample(dir: &Path) {
    run(Load::Small, workload::open(Load::Small, dir), 30, &mut hush).unwrap();
    // All that goes to the disk, so that there are tables of each keyspace.
    let options = Options { memtable_bytes: 1, ..Load::Small.options() };
    let (store, _) = Store::open(dir, &options).unwrap();
    let mut batch = store.batch();
    batch.put(&module(), "a module");
    batch.put(&ModuleBlob([3; 32]), module_bytes());
    store.commit(batch, Persist::Sync).unwrap();
    store.maintain().unwrap();
    while store.stats().memtables_sealed > 0 {
        store.maintain().unwrap();
        std::thread::yield_now();
    }
    drop(store);
    run(Load::Small, workload::open(Load::Small, dir), COMMITS, &mut hush).unwrap();
    trim_journal(dir);
}

fn module() -> Module {
    Module(ModuleName::new("a-filter@1.0.0").unwrap())
}

fn module_bytes() -> Bytes {
    vec![7; 9_000].into()
}

/// Reads all of the store. `Err`: what is damaged is said. A panic: something is gone without a word.
fn read_all(store: &Store) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let expected = Load::Small.ends(COMMITS);
    let ends: BTreeMap<PartitionId, u64> =
        store.partitions().into_iter().map(|(partition, row)| (partition, row.next_offset)).collect();
    assert_eq!(ends, expected);
    for (partition, end) in expected {
        let mut next = 0;
        while next < end {
            let batches = store.read(partition, next, u64::MAX, 1).map_err(|error| say(&error))?;
            let batch = batches.first().unwrap_or_else(|| panic!("partition {partition} ends at {next}"));
            assert_eq!(batch.base_offset, next, "partition {partition} has a gap");
            let view = BatchView::new(&batch.bytes, Check::Full).map_err(|error| say(&error))?;
            next = view.next_offset();
        }
    }
    let last = store.get(&workload::LAST).map_err(|error| say(&error))?;
    assert_eq!(last, Some(COMMITS.to_be_bytes().to_vec().into()));
    let row = store.get(&module()).map_err(|error| say(&error))?;
    assert_eq!(row, Some("a module".into()));
    let blob = store.get(&ModuleBlob([3; 32])).map_err(|error| say(&error))?;
    // Modules are named by their hash, which the reader verifies.
    assert_eq!(blob.map(|blob| blob.len()), Some(module_bytes().len()));
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip { at: usize, bit: u8 },
    Cut { to: usize },
    Gone,
}

fn apply(damage: Damage, path: &Path) {
    if path.is_dir() {
        return fs::remove_dir_all(path).unwrap();
    }
    let mut bytes = fs::read(path).unwrap();
    match damage {
        Damage::Flip { at, bit } => bytes[at] ^= 1 << bit,
        Damage::Cut { to } => bytes.truncate(to),
        Damage::Gone => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// Some damages of a file of `length` bytes, spread over it.
fn damages(length: usize, random: &mut Random) -> Vec<Damage> {
    let mut damages = vec![Damage::Gone];
    if length == 0 {
        return damages;
    }
    let mut within = |bound: usize| random.below(bound as u64) as usize;
    let many = rounds_times(1) as usize;
    let mut flips = BTreeSet::from([0, length - 1]);
    flips.extend((0..2 * many).map(|_| within(length)));
    let mut cuts = BTreeSet::from([0, length - 1]);
    cuts.extend((0..many).map(|_| within(length)));
    damages.extend(flips.into_iter().map(|at| Damage::Flip { at, bit: within(8) as u8 }));
    damages.extend(cuts.into_iter().map(|to| Damage::Cut { to }));
    damages
}

/// All files and directories below one.
fn files(dir: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            files(dir, &path, found);
        }
        found.push(path);
    }
    found.sort_unstable();
}

const CHILD: &str = "MILLSTREAM_STORE_SWEEP_CHILD";
const SEED: &str = "MILLSTREAM_STORE_SWEEP_SEED";
const FROM: &str = "MILLSTREAM_STORE_SWEEP_FROM";

/// Not a test by itself: tries the damages one after the other, from the one asked for. A process of its own, since
/// lsm-tree ends it at some: it allocates what a damaged length says.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let (whole, work) = (Path::new(&dir).join("whole"), Path::new(&dir).join("work"));
    let [from, seed] = [FROM, SEED].map(|name| env::var(name).unwrap().parse::<u64>().unwrap());
    for (index, (path, damage)) in all_damages(&whole, seed).into_iter().enumerate().skip(from as usize) {
        let _ = fs::remove_dir_all(&work);
        copy(&whole, &work);
        apply(damage, &work.join(path));
        let outcome = catch_unwind(AssertUnwindSafe(|| match Store::open(&work, &Options::default()) {
            Err(error) => {
                assert!(error.to_string().len() > 20, "{error}");
                "refused"
            }
            Ok((store, _)) => {
                if read_all(&store).is_ok() {
                    "harmless"
                } else {
                    "at reading"
                }
            }
        }));
        println!("@{index} {}", outcome.unwrap_or("silent"));
    }
}

/// What is tried; the same each time for one seed.
fn all_damages(whole: &Path, seed: u64) -> Vec<(PathBuf, Damage)> {
    let mut paths = Vec::new();
    files(whole, Path::new(""), &mut paths);
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    for path in paths {
        let metadata = fs::metadata(whole.join(&path)).unwrap();
        let length = if metadata.is_dir() { 0 } else { metadata.len() as usize };
        all.extend(damages(length, &mut random).into_iter().map(|damage| (path.clone(), damage)));
    }
    all
}

#[test]
fn damage_of_any_file_is_said_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    sample(&whole);
    read_all(&open(&whole).0).unwrap();
    trim_journal(&whole);
    let mut paths = Vec::new();
    files(&whole, Path::new(""), &mut paths);
    let has = |what: &str| paths.iter().any(|path| path.to_string_lossy().contains(what));
    assert!(has("1/tables/") && has("1/blobs/") && has("2/tables/") && has("3/blobs/"), "{paths:?}");

    let seed = Random::from_environment().seed();
    eprintln!("MILLSTREAM_SEED={seed}");
    let mut outcomes = Vec::new();
    loop {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "sweep::child", "--nocapture"])
            .env(CHILD, dir.path())
            .env(FROM, outcomes.len().to_string())
            .env(SEED, seed.to_string())
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in stdout.lines().filter_map(|line| line.strip_prefix('@')) {
            let (index, outcome) = line.split_once(' ').unwrap();
            assert_eq!(index, outcomes.len().to_string());
            outcomes.push(outcome.to_owned());
        }
        if output.status.success() {
            break;
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let allocated = stderr.contains("memory allocation of");
        outcomes.push(if allocated { "ended".to_owned() } else { stderr.into_owned() });
    }
    let mut counts: BTreeMap<(&Path, &str), u32> = BTreeMap::new();
    let mut silent = Vec::new();
    let tried = all_damages(&whole, seed);
    assert_eq!(outcomes.len(), tried.len());
    for ((path, damage), outcome) in tried.iter().zip(&outcomes) {
        *counts.entry((path, outcome)).or_default() += 1;
        if !["refused", "at reading", "harmless", "ended"].contains(&outcome.as_str()) {
            silent.push(format!("{} {damage:?}: {outcome}", path.display()));
        }
    }
    for ((path, outcome), count) in counts {
        eprintln!("{}: {count} {outcome}", path.display());
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn zeroed_pages_at_the_end_of_the_journal_are_cut_off() {
    const PAGE: usize = 4096;
    let dir = tempfile::tempdir().unwrap();
    let (whole, work) = (dir.path().join("whole"), dir.path().join("work"));
    let (store, _) = open(&whole);
    publish(&store, P0, 10, 100, Persist::Sync);
    let start = journal(&whole).1;
    let mut batch = store.batch();
    append(&mut batch, P0, 10, 6, 5_000);
    store.commit(batch, Persist::Buffer).unwrap();
    // As it is when the power goes: the last commit is written and not synced.
    copy(&whole, &work);
    drop(store);
    fs::rename(&work, dir.path().join("torn")).unwrap();
    let torn = dir.path().join("torn");
    trim_journal(&torn);
    let (path, end) = journal(&torn);
    let bytes = fs::read(&path).unwrap();
    let first = start / PAGE;
    let pages = end.div_ceil(PAGE) - first;
    assert!(pages > 6, "{pages}");
    for lost in 1..1_u32 << pages {
        // Each page alone, each run from a page to the end, and in the long form every set of pages.
        let run = (lost.trailing_zeros()..32).take_while(|page| lost & (1 << page) != 0).count() as u32;
        let to_the_end = lost.trailing_zeros() + run == pages as u32;
        if rounds_times(1) == 1 && !lost.is_power_of_two() && !(run == lost.count_ones() && to_the_end) {
            continue;
        }
        let _ = fs::remove_dir_all(&work);
        copy(&torn, &work);
        let mut bytes = bytes.clone();
        for page in (0..pages).filter(|page| lost & (1 << page) != 0) {
            let from = ((first + page) * PAGE).max(start);
            let to = ((first + page + 1) * PAGE).min(end);
            bytes[from..to].fill(0);
        }
        fs::write(work.join("db").join(path.file_name().unwrap()), bytes).unwrap();
        let (store, recovery) = match Store::open(&work, &Options::default()) {
            Ok(opened) => opened,
            Err(OpenError::DataLoss(loss)) => panic!("pages {lost:b} lost: {loss}"),
            Err(error) => panic!("pages {lost:b} lost: {error}"),
        };
        assert_eq!(recovery.loss, None);
        assert_eq!(check_whole(&store, P0), 10, "pages {lost:b} lost");
        publish(&store, P0, 1, 10, Persist::Sync);
        drop(store);
        assert_eq!(check_whole(&open(&work).0, P0), 11);
    }
}
