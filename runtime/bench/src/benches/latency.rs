//! From publishing to delivery, beside an echo, with and without load beside them.

use millstream_client::Durability;

use super::{publish::batches, say};
use crate::{
    Error, Report, Settings,
    child::{Child, ChildCommand},
    limits::{echo, quic_up},
    report::Goal,
    scratch::settle,
    subject::{Amount, Broker, Producers, latency as run_latency, publish as run_producers},
};

const P50_GOAL: Goal = Goal::AtMost(2.0);
const P99_GOAL: Goal = Goal::AtMost(5.0);

pub(super) async fn latency(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    for round in 0..settings.rounds {
        say(settings, round, "QUIC echo");
        sample_echo(report, settings).await?;
        say(settings, round, "publish to deliver");
        sample_delivery(report, settings).await?;
        settle().await?;
    }
    for load in ["", "loaded_"] {
        for (percentile, goal) in [("p50", P50_GOAL), ("p99", P99_GOAL)] {
            report.ratio(
                &format!("{load}latency_{percentile}_to_echo"),
                &format!("{load}deliver_{percentile}_us"),
                &format!("{load}quic_echo_{percentile}_us"),
                goal,
            );
        }
    }
    Ok(())
}

async fn sample_echo(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let server = Child::start(ChildCommand::Quic.to_args()).await?;
    let duration = settings.duration();
    report.latencies("quic_echo", &echo(&server, settings.record_bytes, duration).await?);
    let (loaded, _) = tokio::try_join!(
        echo(&server, settings.record_bytes, duration),
        quic_up(&server, settings.batch_bytes, duration),
    )?;
    report.latencies("loaded_quic_echo", &loaded);
    Ok(())
}

async fn sample_delivery(report: &mut Report, settings: &Settings) -> Result<(), Error> {
    let broker = Broker::start(settings).await?;
    let topic = broker.topic(1, Durability::Interval).await?;
    let duration = settings.duration();
    report.latencies("deliver", &run_latency(&broker, &topic, settings.record_bytes, duration).await?);
    let bulk_topic = broker.topic(settings.partitions, Durability::Interval).await?;
    let bulk = Producers { count: 1, ..batches(settings) };
    let (loaded, published) = tokio::try_join!(
        run_latency(&broker, &topic, settings.record_bytes, duration),
        run_producers(&broker, &bulk_topic, &bulk, Amount::For(duration)),
    )?;
    report.latencies("loaded_deliver", &loaded);
    report.sample("loaded_deliver_bulk_mb_per_s", published.mb_per_s());
    broker.forget(topic).await?;
    broker.forget(bulk_topic).await
}
