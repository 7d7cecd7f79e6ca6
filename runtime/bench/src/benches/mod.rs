//! What can be asked for, one bench a file: which measurements take turns, and which ratios come out.

mod consume;
mod engine;
mod fairness;
mod filter;
mod idle;
mod latency;
mod limits;
mod publish;
mod subscriptions;
mod work;

use crate::{Error, Report, Settings, progress, scratch};

/// A bench, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bench {
    All,
    Publish,
    Consume,
    Filter,
    Work,
    Latency,
    Idle,
    Engine,
    Fairness,
    Subscriptions,
    Limits,
}

impl Bench {
    /// Those that `All` stands for. The limits come with the others, apart from raw disk and raw fjall.
    const EACH: [Self; 10] = [
        Self::Idle,
        Self::Publish,
        Self::Consume,
        Self::Filter,
        Self::Work,
        Self::Latency,
        Self::Engine,
        Self::Fairness,
        Self::Subscriptions,
        Self::Limits,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Publish => "publish",
            Self::Consume => "consume",
            Self::Filter => "filter",
            Self::Work => "work",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Engine => "engine",
            Self::Fairness => "fairness",
            Self::Subscriptions => "subscriptions",
            Self::Limits => "limits",
        }
    }
}

/// Runs a bench for as many rounds as asked.
pub(crate) async fn measure(bench: Bench, settings: &Settings) -> Result<Report, Error> {
    let mut report = Report::new(bench.name(), settings);
    scratch::note_file_system(&mut report, settings)?;
    match bench {
        Bench::All => {
            for bench in Bench::EACH {
                if bench != Bench::Idle || settings.broker.is_none() {
                    run(bench, settings, &mut report).await?;
                }
            }
        }
        bench => run(bench, settings, &mut report).await?,
    }
    Ok(report)
}

async fn run(bench: Bench, settings: &Settings, report: &mut Report) -> Result<(), Error> {
    match bench {
        Bench::All => Ok(()),
        Bench::Publish => publish::publish(settings, report).await,
        Bench::Consume => consume::consume(settings, report).await,
        Bench::Filter => filter::filter(settings, report).await,
        Bench::Work => work::work(settings, report).await,
        Bench::Latency => latency::latency(settings, report).await,
        Bench::Idle => idle::idle(settings, report).await,
        Bench::Engine => engine::engine(settings, report).await,
        Bench::Fairness => fairness::fairness(settings, report).await,
        Bench::Subscriptions => subscriptions::subscriptions(settings, report).await,
        Bench::Limits => limits::limits(settings, report).await,
    }
}

/// Says what is measured now.
fn say(settings: &Settings, round: usize, what: &str) {
    progress::say(&format!("round {} of {}: {what}", round + 1, settings.rounds));
}
