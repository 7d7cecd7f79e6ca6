//! A header filter in the broker, beside shipping everything.

use super::{
    consume::{Loaded, load},
    say,
};
use crate::{
    Error, Report, Settings, progress,
    report::Goal,
    subject::{Pass, consume as run_consumer, keep_header},
};

pub(super) async fn filter(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    progress::say("storing records");
    let loaded = load(settings, settings.load_mb, Some(settings.keep_one_in)).await?;
    let Loaded { broker, topic, records } = &loaded;
    let records = *records;
    let (header, value) = keep_header();
    let keeping = serde_json::json!({ "header": header, "equals": value }).to_string();
    let keeping_all = serde_json::json!({ "header": header, "exists": true }).to_string();
    let kept = records.div_ceil(settings.keep_one_in);
    let passes = [
        ("filtered_records_per_s", Pass::FilteredByBroker(keeping), kept),
        ("client_filtered_records_per_s", Pass::FilteredByClient, kept),
        ("all_kept_records_per_s", Pass::FilteredByBroker(keeping_all), records),
        ("unfiltered_records_per_s", Pass::All, records),
    ];
    for round in 0..settings.rounds {
        for (figure, pass, kept) in &passes {
            say(settings, round, figure);
            let passed = run_consumer(broker, topic, pass, records, *kept, settings.duration()).await?;
            report.sample(*figure, passed.records_per_s());
        }
    }
    report.ratio(
        "filter_to_client_side",
        "filtered_records_per_s",
        "client_filtered_records_per_s",
        Goal::AtLeast(5.0),
    );
    report.ratio(
        "filtered_to_unfiltered",
        "all_kept_records_per_s",
        "unfiltered_records_per_s",
        Goal::AtLeast(0.9),
    );
    loaded.forget().await
}
