//! Workers that settle record by record, in each delivery mode that leases.

use millstream_client::{DeliveryMode, SubscriptionName};

use super::{consume::load, say};
use crate::{Error, Report, Settings, progress, report::Goal, subject::work as run_workers};

pub(super) async fn work(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    progress::say("storing records");
    let stored = load(settings, settings.load_mb, None).await?;
    for round in 0..settings.rounds {
        for mode in [DeliveryMode::Shared, DeliveryMode::KeyShared, DeliveryMode::Failover] {
            say(settings, round, &format!("work, {mode}"));
            let name: SubscriptionName =
                format!("bench-{mode}-{round}").parse().map_err(Error::millstream("name"))?;
            let passed =
                run_workers(&stored.broker, &stored.topic, name, mode, settings.workers, stored.records)
                    .await?;
            report.sample(format!("{mode}_single_acks_per_s"), passed.records_per_s());
        }
    }
    report.goal("shared_single_acks_per_s", Goal::AtLeast(100_000.0));
    stored.forget().await
}
