//! A processor over the kill: the delays of each carrier in each hour, told anew with each flight, against sums over the CSV
//! file. Each count must come once, from 1 on: a flight that counted twice or not at all would show.

use std::collections::BTreeMap;

use millstream_client::{Client, SubscriptionName, TopicName};
use serde::Deserialize;

use crate::{
    Error,
    commands::{Cli, module_dir},
    flights::{Flights, Hour},
    reading::whole,
    report::Report,
};

/// Where the processor tells its hours.
pub(crate) const TOPIC: &str = "hours";
const NAME: &str = "carrier-hours";
const MODULE: &str = "carrier-hours@0.1.0";

/// Starts it: it is at its first records when the broker is killed.
pub(crate) fn start(cli: &Cli<'_>, topic: &str, work: &std::path::Path) -> Result<(), Error> {
    let (module, source) = (work.join("carrier-hours.wasm"), module_dir(NAME));
    let (module, source) = (module.to_string_lossy(), source.to_string_lossy());
    cli.run(&["module", "build", &source, "-o", &module])?;
    cli.run(&["module", "push", &module, "--name", MODULE])?;
    cli.run(&["processor", "create", NAME, "--from", topic, "--to", TOPIC, "--module", MODULE])?;
    Ok(())
}

/// As the module tells an hour.
#[derive(Deserialize)]
struct Told {
    carrier: String,
    hour: String,
    flights: u64,
    minutes: f64,
    worst: f64,
}

/// Waits until it is done, and compares all that it told.
pub(crate) async fn compare(client: &Client, flights: &Flights, report: &mut Report) -> Result<(), Error> {
    let name: SubscriptionName = NAME.parse().expect("the name above is good");
    let topic: TopicName = TOPIC.parse().expect("the name above is good");
    while client.describe_subscription(name.clone()).await?.unscanned > 0 {
        tokio::task::yield_now().await;
    }
    let (mut hours, mut told, mut in_turn) = (BTreeMap::<(String, String), Hour>::new(), 0_u64, 0_u64);
    let mut consumer = whole(client, &topic).await?;
    while let Some(delivery) = consumer.next_batch().await {
        for record in delivery?.batch.view().records() {
            let payload = record.payload.unwrap_or_default();
            let Ok(Told { carrier, hour, flights, minutes, worst }) = serde_json::from_slice(payload) else {
                continue;
            };
            let last = hours.entry((carrier, hour)).or_default();
            told += 1;
            in_turn += u64::from(flights == last.flights + 1);
            *last = Hour { flights, minutes: minutes as i64, worst: worst as i64 };
        }
    }
    consumer.close().await?;
    let wanted = flights.hours();
    let flown: u64 = wanted.values().map(|hour| hour.flights).sum();
    report.check("flights that the processor counted", flown, told);
    report.check("of them in turn", flown, in_turn);
    report.check("hours of all carriers", wanted.len(), hours.len());
    let equal = wanted.iter().filter(|(key, hour)| hours.get(*key) == Some(hour)).count();
    report.check("hours with the same flights, minutes and worst delay", wanted.len(), equal);
    report.fact("carrier_hours", wanted.len());
    Ok(())
}
