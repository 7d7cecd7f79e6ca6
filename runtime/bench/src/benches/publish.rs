//! Publishing beside the skeleton.

use millstream_client::{Durability, PublishOptions};

use super::{
    limits::{DURABILITIES, name, sample_skeleton, sample_skeleton_records},
    say,
};
use crate::{
    Error, Report, Settings,
    report::Goal,
    scratch::settle,
    stats,
    subject::{Amount, Broker, Producers, Published, publish as run_producers},
};

const GOAL: Goal = Goal::AtLeast(0.8);

pub(super) async fn publish(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    for round in 0..settings.rounds {
        for durability in DURABILITIES {
            say(settings, round, &format!("skeleton, {}", name(durability)));
            sample_skeleton(report, settings, durability).await?;
            say(settings, round, &format!("publish, {}", name(durability)));
            sample_batches(report, settings, durability).await?;
        }
        say(settings, round, "skeleton, single records");
        sample_skeleton_records(report, settings).await?;
        say(settings, round, "publish, single records");
        sample_records(report, settings).await?;
    }
    for durability in DURABILITIES.map(name) {
        report.ratio(
            &format!("publish_{durability}_to_skeleton"),
            &format!("publish_{durability}_mb_per_s"),
            &format!("skeleton_{durability}_mb_per_s"),
            GOAL,
        );
    }
    report.lowest("publish_to_skeleton", &["publish_sync_to_skeleton", "publish_interval_to_skeleton"]);
    report.ratio(
        "publish_single_to_skeleton",
        "publish_single_records_per_s",
        "skeleton_single_records_per_s",
        GOAL,
    );
    Ok(())
}

/// Settings for batches of `batch_bytes`, as many unanswered as the skeleton may have frames.
pub(super) fn batches(settings: &Settings) -> Producers {
    Producers {
        count: settings.producers,
        record_bytes: settings.record_bytes,
        keep_one_in: None,
        options: PublishOptions {
            batch_bytes: settings.batch_bytes,
            in_flight_batches: settings.in_flight,
            in_flight_bytes: settings.in_flight.saturating_mul(settings.batch_bytes),
            ..PublishOptions::default()
        },
    }
}

/// One round of batches.
async fn sample_batches(
    report: &mut Report,
    settings: &Settings,
    durability: Durability,
) -> Result<(), Error> {
    let (published, cpu_s) = measured(settings, durability, batches(settings)).await?;
    let name = name(durability);
    report.sample(format!("publish_{name}_mb_per_s"), published.mb_per_s());
    if let Some(cpu_s) = cpu_s {
        let cpu = stats::per_gb(cpu_s, published.bytes());
        report.sample(format!("publish_{name}_broker_cpu_s_per_gb"), cpu);
    }
    Ok(())
}

/// One round of synced records: a batch each, and gathered by the client as it likes.
async fn sample_records(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let options = PublishOptions {
        in_flight_batches: settings.records_in_flight,
        // As many records, with room for their heads.
        in_flight_bytes: settings.records_in_flight.saturating_mul(settings.record_bytes + RECORD_ROOM_BYTES),
        ..PublishOptions::default()
    };
    for (figure, batch_bytes) in
        [("publish_single_records_per_s", 1), ("publish_gathered_records_per_s", options.batch_bytes)]
    {
        let options = PublishOptions { batch_bytes, ..options.clone() };
        let producers = Producers { options, ..batches(settings) };
        let (published, _) = measured(settings, Durability::Sync, producers).await?;
        report.sample(figure, published.records_per_s());
    }
    Ok(())
}

/// Bytes of a batch of one record beside its payload, at most.
const RECORD_ROOM_BYTES: usize = 128;

/// What a broker stored, and the CPU time it took.
async fn measured(
    settings: &Settings,
    durability: Durability,
    producers: Producers,
) -> Result<(Published, Option<f64>), Error> {
    let broker = Broker::start(settings).await?;
    let topic = broker.topic(settings.partitions, durability).await?;
    let before = broker.cpu_seconds();
    let published = run_producers(&broker, &topic, &producers, Amount::For(settings.duration())).await?;
    let cpu = broker.cpu_seconds().zip(before).map(|(after, before)| after - before);
    broker.forget(topic).await?;
    drop(broker);
    settle().await?;
    Ok((published, cpu))
}
