//! The power goes at any sync: what was acknowledged as durable is there afterwards, whole commits only, none twice,
//! and the store opens without a word of loss. `MILLSTREAM_SOAK=1` makes it minutes, `MILLSTREAM_POWER_ROUNDS` as long
//! as wanted (under `cargo test`: nextest ends a test after 5 minutes).

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
};

use millstream_store::{OpenError, Options, Store};

use crate::{
    harness::{Random, rounds_times},
    shadow::{Cut, Disk, Rest},
    workload::{Load, Told, open, run, say},
};

const CHILD: &str = "MILLSTREAM_STORE_POWER_CHILD";
const LOAD: &str = "MILLSTREAM_STORE_POWER_LOAD";
const UNTIL: &str = "MILLSTREAM_STORE_POWER_UNTIL";

/// Not a test by itself: what runs until the power goes.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let dir = Path::new(&dir);
    match env::var(LOAD).unwrap().as_str() {
        "files" => files(dir),
        load => {
            let loads = [Load::Small, Load::Buffered, Load::Large, Load::Compacting];
            let load = loads.into_iter().find(|known| format!("{known:?}") == load).unwrap();
            let until = env::var(UNTIL).unwrap().parse().unwrap();
            if env::var("POWERLOSS_HOW").is_ok_and(|how| how != "fails") {
                return run(load, open(load, dir), until, &mut say).unwrap();
            }
            // A store that does not open has acknowledged nothing, nor does one whose writes fail.
            if let Ok((store, _)) = Store::open(dir, &load.options()) {
                let _ = run(load, store, until, &mut say);
            }
        }
    }
}

/// A disk, and what the processes on it were told.
struct Lives {
    load: Load,
    disk: Disk,
    told: Told,
}

impl Lives {
    fn new(load: Load) -> Self {
        Self { load, disk: Disk::new(), told: Told { synced: 0, begun: 0 } }
    }

    /// Two levels that the store has to make itself.
    fn data(&self) -> PathBuf {
        self.disk.live().join("srv/data")
    }

    /// A process works until the power goes. On a slow disk it goes on while memtables are flushed.
    fn live(&mut self, cut: Cut, commits: u64, slow_us: u64) {
        let variables = [
            (CHILD, self.data().display().to_string()),
            (LOAD, format!("{:?}", self.load)),
            ("POWERLOSS_SLOW_US", slow_us.to_string()),
            (UNTIL, (self.told.begun + commits).to_string()),
        ];
        let run = self.disk.run("power_loss::child", &variables, cut);
        if let Some(first) = run.said.first() {
            self.told.check(first.strip_prefix("begins ").unwrap().parse().unwrap());
            self.told.begun = 0;
        }
        run.said.iter().for_each(|line| self.told.hear(line));
        eprintln!("{:?}: {cut:?}, then {:?}", self.load, self.told);
    }
}

fn some_rest(random: &mut Random) -> Rest {
    if random.below(2) == 0 { Rest::Nothing } else { Rest::Some }
}

/// Lives after one another on one disk: in each the power goes somewhere, and the next finds what is left.
fn lives(load: Load, random: &mut Random) {
    let (lives, syncs, commits) = if load == Load::Large { (4, 120, 90) } else { (8, 400, 300) };
    let mut on = Lives::new(load);
    for _ in 0..lives {
        // Opening takes some dozens of syncs; half of the cuts are in there.
        let within = if random.below(2) == 0 { 60 } else { syncs };
        let cut =
            Cut { at: 1 + random.below(within), how: ["before", "torn", "after"][random.below(3) as usize] };
        on.live(cut, commits, random.below(2) * 4_000);
        on.disk.power_cycle(some_rest(random), random);
    }
    on.told.check(load.check(&open(load, &on.data())));
}

/// A sync fails, the process does what it does then, and the power goes. What was acknowledged is there; and since what
/// was not may be there in part, the store may refuse to open until told to.
fn a_sync_fails(random: &mut Random) {
    let load = Load::Small;
    let mut on = Lives::new(load);
    on.live(Cut { at: 0, how: "never" }, random.below(40), 0);
    on.live(Cut { at: 1 + random.below(120), how: "fails" }, 200, 0);
    on.disk.power_cycle(some_rest(random), random);
    match Store::open(&on.data(), &load.options()) {
        Ok((store, _)) => on.told.check(load.check(&store)),
        Err(OpenError::DataLoss(loss)) => {
            eprintln!("{loss}");
            assert!(loss.missing.iter().all(|range| range.from < range.to), "{loss}");
            let options = Options { accept_data_loss: true, ..load.options() };
            let (store, _) = Store::open(&on.data(), &options).unwrap();
            load.check_holds(&store, on.told.synced);
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs a scenario some times and says, should it fail, with which seed.
fn rounds(rounds: u64, scenario: impl Fn(&mut Random)) {
    let given = env::var("MILLSTREAM_POWER_ROUNDS").ok().map(|rounds| rounds.parse().unwrap());
    for _ in 0..given.unwrap_or_else(|| rounds_times(rounds)) {
        let mut random = Random::from_environment();
        let seed = random.seed();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(&mut random))) {
            eprintln!("failed with MILLSTREAM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn small_commits_survive_the_power() {
    rounds(2, |random| lives(Load::Small, random));
}

#[test]
fn what_compaction_leaves_survives_the_power() {
    rounds(2, |random| lives(Load::Compacting, random));
}

/// Just before a journal is synced, what was flushed until then must be in what was synced until then.
#[test]
fn flushes_are_never_ahead_of_the_journal() {
    rounds(1, |random| {
        let mut on = Lives::new(Load::Buffered);
        for _ in 0..8 {
            on.live(Cut { at: 8 + random.below(60), how: "journal" }, 300, 4_000);
            on.disk.power_cycle(some_rest(random), random);
        }
        on.told.check(Load::Buffered.check(&open(Load::Buffered, &on.data())));
    });
}

#[test]
fn journals_that_change_and_go_survive_the_power() {
    rounds(1, |random| lives(Load::Large, random));
}

#[test]
fn a_failed_sync_and_then_the_power_takes_nothing_acknowledged() {
    rounds(5, a_sync_fails);
}

/// The model itself, on plain files.
fn files(dir: &Path) {
    let directory = |path: &Path| File::open(path).unwrap().sync_all().unwrap();
    let write = |name: &str, text: &str| {
        let mut file = File::create(dir.join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    write("synced", "synced").sync_data().unwrap();
    write("name only", "lost");
    write("replaced", "old").sync_all().unwrap();
    write("removed", "still there").sync_all().unwrap();
    fs::create_dir(dir.join("directory")).unwrap();
    fs::create_dir(dir.join("blobs")).unwrap();
    directory(dir);
    File::options().append(true).open(dir.join("synced")).unwrap().write_all(b", and more").unwrap();
    write("replacement", "new").sync_all().unwrap();
    fs::rename(dir.join("replacement"), dir.join("replaced")).unwrap();
    fs::remove_file(dir.join("removed")).unwrap();
    write("nameless", "synced without a name").sync_all().unwrap();
    write("directory/nameless", "").sync_all().unwrap();
    write("blobs/named", "a name, too").sync_all().unwrap();
    fs::create_dir(dir.join("lost")).unwrap();
    write("lost/file", "").sync_all().unwrap();
    directory(&dir.join("lost"));
}

#[test]
fn the_disk_keeps_what_was_synced_and_nothing_else() {
    let mut disk = Disk::new();
    let variables = [(CHILD, disk.live().display().to_string()), (LOAD, "files".to_owned())];
    let run = disk.run("power_loss::child", &variables, Cut { at: 0, how: "before" });
    assert!(!run.cut, "{}", run.stderr);
    disk.power_cycle(Rest::Nothing, &mut Random::from_environment());
    let mut found = Vec::new();
    list(&disk.live(), PathBuf::new(), &mut found);
    let expected = [
        ("blobs/named", "a name, too"),
        ("name only", ""),
        ("removed", "still there"),
        ("replaced", "old"),
        ("synced", "synced"),
    ];
    assert_eq!(found, expected.map(|(name, text)| (PathBuf::from(name), text.to_owned())));
    assert!(disk.live().join("directory").is_dir());
}

fn list(dir: &Path, prefix: PathBuf, found: &mut Vec<(PathBuf, String)>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = prefix.join(entry.file_name());
        if entry.path().is_dir() {
            list(&entry.path(), name, found);
        } else {
            found.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}
