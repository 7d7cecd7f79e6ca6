//! Cutting the journals off behind their last whole batch. What is cut off is kept beside them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use super::Damage;
use crate::layout::sync_parent;

/// How many cut-off pieces are kept: enough to look into, without end.
const KEPT_MAX: usize = 16;

/// Ends the journals where `damage` begins; returns the files in `keep_in` that hold what was cut off.
pub(crate) fn cut(damage: &Damage, keep_in: &Path) -> io::Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    // From the end, so that an interruption leaves a damage that the next open finds and cuts again.
    for journal in damage.later.iter().rev() {
        kept.extend(keep(journal, 0, keep_in)?);
        fs::remove_file(journal)?;
        sync_parent(journal)?;
    }
    kept.extend(keep(&damage.journal, damage.at, keep_in)?);
    let journal = OpenOptions::new().write(true).open(&damage.journal)?;
    journal.set_len(damage.at)?;
    journal.sync_all()?;
    forget_oldest(keep_in)?;
    Ok(kept)
}

/// Copies what `journal` holds from `at` on, unless that is nothing but zeros.
fn keep(journal: &Path, at: u64, keep_in: &Path) -> io::Result<Option<PathBuf>> {
    let mut file = File::open(journal)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { return Ok(None) };
    bytes.truncate(last + 1);
    let name = journal.file_name().unwrap_or_default().to_string_lossy();
    // The same journal may be cut at the same place again, with other bytes behind.
    let mut number = 0;
    let path = loop {
        let path = keep_in.join(format!("{name}.{at}.{number}.torn"));
        if !path.try_exists()? {
            break path;
        }
        number += 1;
    };
    let mut copy = File::create_new(&path)?;
    io::Write::write_all(&mut copy, &bytes)?;
    copy.sync_all()?;
    sync_parent(&path)?;
    Ok(Some(path))
}

fn forget_oldest(keep_in: &Path) -> io::Result<()> {
    let mut pieces = Vec::new();
    for entry in fs::read_dir(keep_in)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "torn") {
            pieces.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    pieces.sort_unstable();
    for (_, piece) in pieces.iter().rev().skip(KEPT_MAX) {
        fs::remove_file(piece)?;
    }
    Ok(())
}

/// Gives back the space at the end of journals that was allocated ahead and never written. fjall does it too, but after
/// working through it, which takes memory that stays.
pub(crate) fn trim(unwritten: &[(PathBuf, u64)]) -> io::Result<()> {
    unwritten.iter().try_for_each(|(path, at)| OpenOptions::new().write(true).open(path)?.set_len(*at))
}
