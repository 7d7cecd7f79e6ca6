//! Raw disk: one file, written from its start.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use crate::{Error, payload, stats};

/// MB/s with one fdatasync at the end.
pub(crate) fn disk_buffered(dir: &Path, value_bytes: usize, duration: Duration) -> Result<f64, Error> {
    write(dir, value_bytes, duration, |_| Ok(()))
}

/// MB/s with an fdatasync after each value.
pub(crate) fn disk_sync(dir: &Path, value_bytes: usize, duration: Duration) -> Result<f64, Error> {
    write(dir, value_bytes, duration, File::sync_data)
}

fn write(
    dir: &Path,
    value_bytes: usize,
    duration: Duration,
    after_each: impl Fn(&File) -> std::io::Result<()>,
) -> Result<f64, Error> {
    let path = dir.join("raw");
    let mut file = File::create_new(&path).map_err(Error::io(format!("create {}", path.display())))?;
    let value = payload::noise(value_bytes, 1);
    let mut total = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        file.write_all(&value).map_err(Error::io("write to the raw file"))?;
        after_each(&file).map_err(Error::io("sync the raw file"))?;
        total += value.len() as u64;
    }
    file.sync_data().map_err(Error::io("sync the raw file"))?;
    let rate = stats::mb_per_s(total, start.elapsed());
    std::fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
    Ok(rate)
}
