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

use crate::{
    harness::Random,
    shadow::{Cut, Disk, Rest},
    workload::{Load, Told, run, say},
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
            let load = if load == "Small" { Load::Small } else { Load::Large };
            let until = env::var(UNTIL).unwrap().parse().unwrap();
            drop(run(load, dir, until).unwrap());
            say("synced", until);
        }
    }
}

/// Lives after one another on one disk: in each the power goes somewhere, and the next finds what is left.
fn lives(load: Load, rounds: u64, random: &mut Random) {
    // Two levels that the store has to make itself.
    let data = |disk: &Disk| disk.live().join("srv/data");
    let mut disk = Disk::new();
    let mut told = Told { synced: 0, begun: 0 };
    for _ in 0..rounds {
        // Opening takes some dozens of syncs; half of the cuts are in there.
        let work = if load == Load::Small { 400 } else { 120 };
        let within = if random.below(2) == 0 { 60 } else { work };
        let at = 1 + random.below(within);
        let cut = Cut { at, how: ["before", "torn", "after"][random.below(3) as usize] };
        let rest = if random.below(2) == 0 { Rest::Nothing } else { Rest::Some };
        let variables = [
            (CHILD, data(&disk).display().to_string()),
            (LOAD, format!("{load:?}")),
            (UNTIL, (told.begun + if load == Load::Small { 300 } else { 90 }).to_string()),
        ];
        let run = disk.run("power_loss::child", &variables, cut);
        if let Some(first) = run.said.first() {
            told.check(first.strip_prefix("begins ").unwrap().parse().unwrap());
            told.begun = 0;
        }
        run.said.iter().for_each(|line| told.hear(line));
        eprintln!("{load:?}: {cut:?}, {rest:?}, then {told:?}");
        disk.power_cycle(rest, random);
    }
    let (store, recovery) = millstream_store::Store::open(&data(&disk), &load.options()).unwrap();
    assert_eq!(recovery.loss, None);
    told.check(load.check(&store));
}

/// Runs `rounds` rounds of `lives` and says, should one fail, with which seed.
fn rounds(load: Load, rounds: u64, lives_each: u64) {
    let soak = if env::var_os("MILLSTREAM_SOAK").is_some() { 20 } else { 1 };
    let rounds = env::var("MILLSTREAM_POWER_ROUNDS").map_or(rounds * soak, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let mut random = Random::from_environment();
        let seed = random.seed();
        let outcome = catch_unwind(AssertUnwindSafe(|| lives(load, lives_each, &mut random)));
        if let Err(panic) = outcome {
            eprintln!("failed with MILLSTREAM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn small_commits_survive_the_power() {
    rounds(Load::Small, 3, 8);
}

#[test]
fn journals_that_change_and_go_survive_the_power() {
    rounds(Load::Large, 1, 4);
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
