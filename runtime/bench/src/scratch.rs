//! Where a measurement writes, and a quiet machine for it to start on.

use std::{path::PathBuf, time::Duration};

use tempfile::TempDir;

use crate::{Error, Report, Settings};

/// A directory for one measurement, removed when this is dropped.
pub(crate) fn scratch(settings: &Settings) -> Result<TempDir, Error> {
    let parent: PathBuf = settings.dir();
    tempfile::Builder::new()
        .prefix("millstream-bench-")
        .tempdir_in(&parent)
        .map_err(Error::io(format!("make a directory in {}", parent.display())))
}

/// How long the machine rests between measurements, so that what one leaves behind is not charged to the next.
const REST: Duration = Duration::from_millis(200);

/// Waits until what was written before is on the disk.
pub(crate) async fn settle() -> Result<(), Error> {
    tokio::task::spawn_blocking(rustix::fs::sync).await?;
    tokio::time::sleep(REST).await;
    Ok(())
}

/// Notes the file system that is measured; in memory, a sync costs nothing and its figures mean nothing.
pub(crate) fn note_file_system(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let dir = settings.dir();
    let found = rustix::fs::statfs(&dir)
        .map_err(|error| Error::io(format!("look at the file system of {}", dir.display()))(error.into()))?;
    #[expect(clippy::useless_conversion, reason = "the width of the field differs by platform")]
    let in_memory = i64::from(found.f_type) == TMPFS_MAGIC;
    report.setting("dir_in_memory", in_memory);
    Ok(())
}
