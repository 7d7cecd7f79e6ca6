//! The limits alone.

use super::scratch::{note_file_system, scratch, settle};
use crate::{
    Error, Report, Settings,
    child::{Child, ChildCommand},
    limits::{
        Durability, Echo, Load, disk_buffered, disk_sync, echo, fjall_buffered, fjall_sync, quic_down,
        quic_up, skeleton,
    },
    progress,
};

type RawWrite = fn(&std::path::Path, usize, std::time::Duration) -> Result<f64, Error>;

const RAW_WRITES: [(&str, RawWrite); 4] = [
    ("disk_buffered_mb_per_s", disk_buffered),
    ("disk_sync_mb_per_s", disk_sync),
    ("fjall_buffered_mb_per_s", fjall_buffered),
    ("fjall_sync_mb_per_s", fjall_sync),
];

pub(crate) async fn limits(settings: &Settings) -> Result<Report, Error> {
    settings.check()?;
    let mut report = Report::new("limits", settings);
    note_file_system(&mut report, settings)?;
    for round in 1..=settings.rounds {
        let say = |what: &str| progress::say(&format!("round {round} of {}: {what}", settings.rounds));
        say("raw QUIC");
        sample_quic(&mut report, settings).await?;
        for (name, write) in RAW_WRITES {
            say(name);
            let dir = scratch(settings)?;
            let (path, bytes, duration) = (dir.path().to_owned(), settings.batch_bytes, settings.duration());
            let rate = tokio::task::spawn_blocking(move || write(&path, bytes, duration)).await??;
            report.sample(name, rate);
            drop(dir);
            settle().await?;
        }
        for durability in Durability::ALL {
            say(&format!("skeleton, {}", durability.name()));
            sample_skeleton(&mut report, settings, durability).await?;
        }
        say("skeleton, single records");
        sample_skeleton_records(&mut report, settings).await?;
    }
    Ok(report)
}

/// One round of raw QUIC up, down and echo.
async fn sample_quic(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let server = Child::start(ChildCommand::Quic.to_args()).await?;
    let duration = settings.duration();
    report.sample("quic_up_mb_per_s", quic_up(&server, settings.batch_bytes, duration).await?);
    report.sample("quic_down_mb_per_s", quic_down(&server, settings.batch_bytes, duration).await?);
    let Echo { p50_us, p99_us } = echo(&server, settings.record_bytes, duration).await?;
    report.sample("quic_echo_p50_us", p50_us);
    report.sample("quic_echo_p99_us", p99_us);
    Ok(())
}

/// One round of the skeleton with frames as large as batches.
pub(super) async fn sample_skeleton(
    report: &mut Report,
    settings: &Settings,
    durability: Durability,
) -> Result<(), Error> {
    let load = Load {
        producers: settings.producers,
        frame_bytes: settings.batch_bytes,
        in_flight: settings.in_flight,
        durability,
        duration: settings.duration(),
    };
    let run = skeleton(&settings.dir(), settings.sync_interval_ms, load).await?;
    report.sample(format!("skeleton_{}_mb_per_s", durability.name()), run.mb_per_s);
    settle().await
}

/// One round of the skeleton with a synced frame a record.
pub(super) async fn sample_skeleton_records(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let load = Load {
        producers: settings.producers,
        frame_bytes: settings.record_bytes,
        in_flight: settings.records_in_flight,
        durability: Durability::Sync,
        duration: settings.duration(),
    };
    let run = skeleton(&settings.dir(), settings.sync_interval_ms, load).await?;
    report.sample("skeleton_single_records_per_s", run.frames_per_s);
    settle().await
}
