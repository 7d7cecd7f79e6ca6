//! A disk that loses power: runs a process under `shim/powerloss.c`, which keeps what was synced, and makes of that the
//! directory which the next life finds.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    fs::{self, File},
    io,
    os::unix::{
        fs::{FileExt as _, MetadataExt as _, symlink},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::harness::Random;

const PAGE: usize = 4096;

/// When the power goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// At which sync of the process; 0 for never.
    pub(crate) at: u64,
    /// `before`, `torn` or `after`: how much of that sync is done. `fails`: it fails and the process goes on; the power
    /// goes when the process ends. `journal`: just before
    /// that sync of a journal. `hangs`: flushes never end.
    pub(crate) how: &'static str,
}

/// What is found on the disk beside what was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    Nothing,
    /// What the system had happened to write by itself: of each directory either the old names or the new ones, of each
    /// file some of the new pages. Names of a directory change in their order on every file system that journals, so
    /// there is nothing between old and new but what a sync cut short leaves.
    Some,
}

/// A directory on a disk whose power can go.
pub(crate) struct Disk {
    dir: TempDir,
    shim: PathBuf,
    lives: u32,
}

/// How a process ended.
pub(crate) struct Run {
    /// The lines of its standard output that begin with `@`, without that.
    pub(crate) said: Vec<String>,
    /// Whether the power went.
    pub(crate) cut: bool,
    pub(crate) stderr: String,
}

impl Disk {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shim = dir.path().join("powerloss.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/powerloss.c");
        let compiled = Command::new("cc")
            .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&shim)
            .arg(source)
            .arg("-pthread")
            .output()
            .expect("cc, with which Rust links, compiles the shim, too");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        fs::create_dir(dir.path().join("life-0")).unwrap();
        Self { dir, shim, lives: 0 }
    }

    /// The directory as it is now.
    pub(crate) fn live(&self) -> PathBuf {
        self.dir.path().join(format!("life-{}", self.lives))
    }

    /// Runs the test `name` of this binary as a process of its own until the power goes or it ends. All that the
    /// directory holds at its start is durable.
    pub(crate) fn run(&self, name: &str, variables: &[(&str, String)], cut: Cut) -> Run {
        let shadow = self.shadow();
        let _ = fs::remove_dir_all(&shadow);
        fs::create_dir(&shadow).unwrap();
        // Held open until the end, so that no inode number is given to another file.
        let mut pins = Vec::new();
        seed(&self.live(), &shadow, &mut pins).unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("LD_PRELOAD", &self.shim)
            .env("POWERLOSS_WATCH", self.live())
            .env("POWERLOSS_SHADOW", &shadow)
            .env("POWERLOSS_AT", cut.at.to_string())
            .env("POWERLOSS_HOW", cut.how)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        drop(pins);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let cut = output.status.signal() == Some(9);
        assert!(cut || output.status.success(), "{:?}: {stderr}", output.status);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let said = stdout.lines().filter_map(|line| line.strip_prefix('@')).map(str::to_owned).collect();
        Run { said, cut, stderr }
    }

    /// The power comes back: the directory is now what was synced, and `rest`.
    pub(crate) fn power_cycle(&mut self, rest: Rest, random: &mut Random) {
        let (live, shadow) = (self.live(), self.shadow());
        let mut unsynced = HashMap::new();
        if rest == Rest::Some {
            inodes(&live, &mut unsynced).unwrap();
        }
        let root = fs::metadata(&live).unwrap().ino();
        self.lives += 1;
        Found { shadow: &shadow, unsynced, random, placed: HashMap::new() }
            .place(root, &self.live())
            .unwrap();
        fs::remove_dir_all(live).unwrap();
    }

    fn shadow(&self) -> PathBuf {
        self.dir.path().join("shadow")
    }
}

/// Enters a directory and all below it into the shadow.
fn seed(live: &Path, shadow: &Path, pins: &mut Vec<File>) -> io::Result<()> {
    let kept = shadow.join(format!("d{}", fs::metadata(live)?.ino()));
    fs::create_dir(&kept)?;
    for entry in fs::read_dir(live)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let metadata = fs::metadata(&path)?;
        pins.push(File::open(&path)?);
        if metadata.is_dir() {
            symlink(format!("d{}", metadata.ino()), kept.join(name))?;
            seed(&path, shadow, pins)?;
        } else {
            symlink(format!("f{}", metadata.ino()), kept.join(name))?;
            copy_sparse(&path, &shadow.join(format!("f{}", metadata.ino())))?;
        }
    }
    Ok(())
}

/// Copies what is not zero: journals are allocated 64 MiB ahead.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(from.metadata()?.len())?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        let count = from.read_at(&mut buffer, at)?;
        let bytes = &buffer[..count];
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|byte| *byte != 0) {
            to.write_all_at(bytes, at)?;
        }
        at += count as u64;
    }
}

fn inodes(dir: &Path, paths: &mut HashMap<u64, PathBuf>) -> io::Result<()> {
    paths.insert(fs::metadata(dir)?.ino(), dir.to_owned());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = fs::metadata(&path)?;
        if metadata.is_dir() {
            inodes(&path, paths)?;
        } else {
            paths.insert(metadata.ino(), path);
        }
    }
    Ok(())
}

/// What is found once the power is back.
struct Found<'a> {
    shadow: &'a Path,
    /// Where files and directories are in the live directory, by inode, if some of what was not synced is there, too.
    unsynced: HashMap<u64, PathBuf>,
    random: &'a mut Random,
    placed: HashMap<u64, PathBuf>,
}

impl Found<'_> {
    fn place(&mut self, ino: u64, to: &Path) -> io::Result<()> {
        fs::create_dir(to)?;
        for (name, (kind, ino)) in self.names(ino)? {
            let to = to.join(name);
            if kind == 'd' { self.place(ino, &to)? } else { self.place_file(ino, &to)? }
        }
        Ok(())
    }

    /// What the names in a directory stand for: kind and inode.
    fn names(&mut self, ino: u64) -> io::Result<BTreeMap<String, (char, u64)>> {
        let mut names = BTreeMap::new();
        let live = self.unsynced.get(&ino).filter(|_| self.random.below(2) == 0);
        let kept = self.shadow.join(format!("d{ino}"));
        // A directory that was never synced is empty, though its name may be durable.
        let Ok(entries) = fs::read_dir(live.unwrap_or(&kept)) else { return Ok(names) };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().expect("our names are text");
            let stands_for = if live.is_some() {
                let metadata = entry.metadata()?;
                (if metadata.is_dir() { 'd' } else { 'f' }, metadata.ino())
            } else {
                let link = fs::read_link(entry.path())?;
                let (kind, ino) = link.to_str().expect("our links are text").split_at(1);
                (if kind == "d" { 'd' } else { 'f' }, ino.parse().expect("an inode"))
            };
            names.insert(name, stands_for);
        }
        Ok(names)
    }

    fn place_file(&mut self, ino: u64, to: &Path) -> io::Result<()> {
        if let Some(placed) = self.placed.get(&ino) {
            return copy_sparse(placed, to);
        }
        let kept = self.shadow.join(format!("f{ino}"));
        // The name of a file may be durable before any of its bytes.
        File::options().create(true).append(true).open(&kept)?;
        if let Some(live) = self.unsynced.get(&ino) {
            mix_pages(live, &kept, self.random)?;
        }
        fs::rename(kept, to)?;
        self.placed.insert(ino, to.to_owned());
        Ok(())
    }
}

/// Brings some of the pages that differ, and maybe the length, from the live file to the kept one.
fn mix_pages(live: &Path, kept: &Path, random: &mut Random) -> io::Result<()> {
    let (live, kept) = (File::open(live)?, File::options().read(true).write(true).open(kept)?);
    let length = live.metadata()?.len();
    if kept.metadata()?.len() != length && random.below(2) == 0 {
        kept.set_len(length)?;
    }
    // Of some files nearly everything, of others next to nothing.
    let of_ten = random.below(11);
    let mut pages = (vec![0; PAGE], vec![0; PAGE]);
    for at in (0..length).step_by(PAGE) {
        let count = live.read_at(&mut pages.0, at)?;
        pages.1.fill(0);
        let durable = kept.read_at(&mut pages.1, at)?;
        let differs = pages.0[..count] != pages.1[..count];
        // Beyond its end the kept file has no pages, not even zeros, unless it grows by this one.
        if differs && (durable > 0 || count > 0) && random.below(10) < of_ten {
            kept.write_all_at(&pages.0[..count], at)?;
        }
    }
    Ok(())
}
