//! The limits alone.

use super::say;
use millstream_client::Durability;

use crate::{
    Error, Report, Settings,
    child::{Child, ChildCommand},
    limits::{
        Load, SkeletonRun, disk_buffered, disk_sync, echo, fjall_buffered, fjall_sync, quic_down, quic_up,
        skeleton,
    },
    scratch::{scratch, settle},
};

pub(super) const DURABILITIES: [Durability; 2] = [Durability::Sync, Durability::Interval];

pub(super) fn name(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
        Durability::Interval => "interval",
    }
}

type RawWrite = fn(&std::path::Path, usize, std::time::Duration) -> Result<f64, Error>;

const RAW_WRITES: [(&str, RawWrite); 4] = [
    ("disk_buffered_mb_per_s", disk_buffered),
    ("disk_sync_mb_per_s", disk_sync),
    ("fjall_buffered_mb_per_s", fjall_buffered),
    ("fjall_sync_mb_per_s", fjall_sync),
];

pub(super) async fn limits(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    for round in 0..settings.rounds {
        say(settings, round, "raw QUIC");
        sample_quic(report, settings).await?;
        for (figure, write) in RAW_WRITES {
            say(settings, round, figure);
            sample_raw_write(report, settings, figure, write).await?;
        }
        for durability in DURABILITIES {
            say(settings, round, &format!("skeleton, {}", name(durability)));
            sample_skeleton(report, settings, durability).await?;
        }
        say(settings, round, "skeleton, single records");
        sample_skeleton_records(report, settings).await?;
    }
    Ok(())
}

async fn sample_raw_write(
    report: &mut Report,
    settings: &Settings,
    figure: &str,
    write: RawWrite,
) -> Result<(), Error> {
    let dir = scratch(settings)?;
    let (path, bytes, duration) = (dir.path().to_owned(), settings.batch_bytes, settings.duration());
    report.sample(figure, tokio::task::spawn_blocking(move || write(&path, bytes, duration)).await??);
    drop(dir);
    settle().await
}

/// One round of raw QUIC up, down and echo.
async fn sample_quic(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let server = Child::start(ChildCommand::Quic.to_args()).await?;
    let duration = settings.duration();
    report.sample("quic_up_mb_per_s", quic_up(&server, settings.batch_bytes, duration).await?);
    report.sample("quic_down_mb_per_s", quic_down(&server, settings.batch_bytes, duration).await?);
    report.latencies("quic_echo", &echo(&server, settings.record_bytes, duration).await?);
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
    let SkeletonRun { mb_per_s, server_cpu_s_per_gb, .. } =
        skeleton(scratch(settings)?.path(), settings.sync_interval_ms, load).await?;
    let name = name(durability);
    report.sample(format!("skeleton_{name}_mb_per_s"), mb_per_s);
    if let Some(cpu) = server_cpu_s_per_gb {
        report.sample(format!("skeleton_{name}_server_cpu_s_per_gb"), cpu);
    }
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
    let run = skeleton(scratch(settings)?.path(), settings.sync_interval_ms, load).await?;
    report.sample("skeleton_single_records_per_s", run.frames_per_s);
    settle().await
}
