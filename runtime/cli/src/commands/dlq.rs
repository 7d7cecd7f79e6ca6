//! `millstream dlq`: dead letters, listed, shown, sent back, purged.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use millstream_client::{Client, Offset, Record, SubscriptionName};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::{broker::connect, cli::Common, failure::Failure, output, render::RecordJson};

const EXAMPLES: &str =
    "A record that failed too often, or that a module rejected, is written to the subscription's dead-letter
topic (dlq.SUBSCRIPTION unless it was created with another one) with headers that say why. Sending it
back delivers the original record to this subscription again, and to no other.

Examples:
  millstream dlq list billing
  millstream dlq show billing 0:17
  millstream dlq redrive billing --error timeout --rate 100 --dry-run
  millstream dlq purge billing --reason rejected";

/// See the module's head.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Dlq {
    /// List a subscription's dead letters
    List {
        /// Whose
        subscription: SubscriptionName,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show one dead letter with its headers and payload
    Show {
        /// Whose
        subscription: SubscriptionName,
        /// PARTITION:OFFSET of the letter, as `list` shows it
        #[arg(value_parser = place)]
        letter: (u32, Offset),
    },
    /// Have the records delivered to the subscription again
    Redrive(Close),
    /// Give the letters up: they are listed no more
    Purge(Close),
}

#[derive(Debug, Args)]
pub(crate) struct Close {
    /// Whose
    subscription: SubscriptionName,
    /// These letters, PARTITION:OFFSET as `list` shows them; none means all that the filters leave
    #[arg(value_name = "LETTER", value_parser = place)]
    letters: Vec<(u32, Offset)>,
    #[command(flatten)]
    filter: Filter,
    /// At most so many a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Only those with this reason
    #[arg(long, value_enum)]
    reason: Option<Reason>,
    /// Only those whose error has this text in it
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Only those with this key
    #[arg(long)]
    key: Option<String>,
    /// Only those with this header; several must all be there
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reason {
    /// A module rejected the record
    Rejected,
    /// A module failed on it
    #[value(name = "module_fault")]
    ModuleFault,
    /// Its time was over
    Expired,
    /// It failed too often
    Failures,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::ModuleFault => "module_fault",
            Self::Expired => "expired",
            Self::Failures => "failures",
        }
    }
}

/// A dead letter and where it is.
struct Letter {
    topic: String,
    partition: u32,
    record: Record,
}

impl Letter {
    fn said(&self, name: &str) -> String {
        let value = self.record.header(&format!("dlq-{name}")).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }

    fn place(&self) -> String {
        format!("{}:{}", self.partition, self.record.offset)
    }

    fn print(&self) -> Result<(), Failure> {
        let mut builder =
            millstream_client::BatchBuilder::new().with_stamp(self.record.offset, self.record.timestamp);
        let encoded = builder.push(&self.record).and_then(|()| builder.build());
        let batch = encoded.map_err(|error| Failure::new(format!("the letter cannot be shown: {error}")))?;
        match batch.view().record(0) {
            Some(view) => output::json(&RecordJson::new(&self.topic, self.partition, &view)),
            None => Ok(()),
        }
    }
}

impl Filter {
    fn takes(&self, letter: &Letter) -> bool {
        let record = &letter.record;
        self.reason.is_none_or(|reason| letter.said("reason") == reason.as_str())
            && self.error.as_ref().is_none_or(|error| letter.said("error").contains(error))
            && self.key.as_ref().is_none_or(|key| record.key.as_deref() == Some(key.as_bytes()))
            && self.header.iter().all(|(name, value)| record.header(name) == Some(value.as_bytes()))
    }
}

impl Dlq {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let client = connect(common).await?;
        let outcome = match self {
            Self::List { subscription, filter } => list(&client, common, &subscription, &filter).await,
            Self::Show { subscription, letter } => show(&client, common, &subscription, letter).await,
            Self::Redrive(close) => close.run(&client, common, true).await,
            Self::Purge(close) => close.run(&client, common, false).await,
        };
        client.close().await;
        outcome
    }
}

/// Hands each open letter that the filter takes to `each`, until that or the limit says enough.
async fn walk(
    client: &Client,
    subscription: &SubscriptionName,
    filter: &Filter,
    mut each: impl AsyncFnMut(Letter) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let (mut partition, mut partitions, mut left) = (0, 1, filter.limit.unwrap_or(u64::MAX));
    while partition < partitions {
        let mut from = 0;
        loop {
            let page = client.dead_letters(subscription.clone(), partition, from).await?;
            partitions = page.partitions;
            for record in page.letters.iter().flat_map(|letters| {
                letters.view().records().map(|letter| letter.to_record()).collect::<Vec<_>>()
            }) {
                let letter = Letter { topic: page.topic.to_string(), partition, record };
                if left == 0 {
                    return Ok(());
                }
                if filter.takes(&letter) {
                    left -= 1;
                    if !each(letter).await? {
                        return Ok(());
                    }
                }
            }
            if page.next >= page.end || page.next <= from {
                break;
            }
            from = page.next;
        }
        partition += 1;
    }
    Ok(())
}

async fn list(
    client: &Client,
    common: &Common,
    subscription: &SubscriptionName,
    filter: &Filter,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let json = common.json;
    let walked = walk(client, subscription, filter, async |letter| {
        if json {
            letter.print()?;
        } else {
            let source =
                format!("{} {}:{}", letter.said("topic"), letter.said("partition"), letter.said("offset"));
            let key = letter.record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned());
            rows.push([
                letter.place(),
                source,
                letter.said("reason"),
                letter.said("deliveries"),
                output::time(letter.record.timestamp),
                key.unwrap_or_default(),
                letter.said("error"),
            ]);
        }
        Ok(true)
    });
    none_yet(walked.await)?;
    if !json {
        let head = ["LETTER", "RECORD", "REASON", "DELIVERIES", "WRITTEN", "KEY", "ERROR"];
        match rows.is_empty() {
            true => eprintln!("no dead letters"),
            false => output::line(output::table(head, rows).to_string())?,
        }
    }
    Ok(())
}

async fn show(
    client: &Client,
    common: &Common,
    subscription: &SubscriptionName,
    (partition, offset): (u32, Offset),
) -> Result<(), Failure> {
    let page = client.dead_letters(subscription.clone(), partition, offset).await?;
    let found = page.letters.as_ref().and_then(|letters| {
        let view = letters.view();
        view.record(view.index_of(offset))
            .filter(|letter| letter.offset == offset)
            .map(|letter| letter.to_record())
    });
    let Some(record) = found else {
        let text = format!(
            "there is no open dead letter {partition}:{offset} of {subscription}: see `millstream dlq list {subscription}`"
        );
        return Err(Failure::new(text));
    };
    let letter = Letter { topic: page.topic.to_string(), partition, record };
    if common.json {
        return letter.print();
    }
    output::line(format!(
        "letter     {} of {}, written {}",
        letter.place(),
        letter.topic,
        output::time(letter.record.timestamp)
    ))?;
    if let Some(key) = &letter.record.key {
        output::line(format!("key        {}", String::from_utf8_lossy(key)))?;
    }
    for header in &letter.record.headers {
        output::line(format!("{}  {}", header.name, String::from_utf8_lossy(&header.value)))?;
    }
    let payload = letter.record.payload.as_deref().unwrap_or_default();
    output::line(format!("\n{}", String::from_utf8_lossy(payload)))
}

impl Close {
    async fn run(self, client: &Client, common: &Common, redrive: bool) -> Result<(), Failure> {
        // Found first, then closed: what comes back as a letter meanwhile is not sent again.
        let mut found = Vec::new();
        let wanted = &self.letters;
        let walked = walk(client, &self.subscription, &self.filter, async |letter| {
            let place = (letter.partition, letter.record.offset);
            if wanted.is_empty() || wanted.contains(&place) {
                found.push(place);
            }
            Ok(true)
        });
        none_yet(walked.await)?;
        let missing = wanted.iter().find(|place| !found.contains(place));
        if let Some((partition, offset)) = missing {
            let name = &self.subscription;
            return Err(Failure::new(format!(
                "there is no open dead letter {partition}:{offset} of {name}: see `millstream dlq list {name}`"
            )));
        }
        let done = if self.dry_run { 0 } else { self.close(client, &found, redrive).await? };
        let (total, what) = (found.len() as u64, if redrive { "redriven" } else { "purged" });
        if common.json {
            return output::json(&json!({ "letters": total, what: done, "dry_run": self.dry_run }));
        }
        match self.dry_run {
            true => output::line(format!("{} would be {what}", output::counted(total, "letter"))),
            false if done < total => output::line(format!(
                "{} of {} {what}; the records of the others are gone, or they were closed meanwhile",
                output::count(done),
                output::counted(total, "letter")
            )),
            false => output::line(format!("{} {what}", output::counted(done, "letter"))),
        }
    }

    async fn close(&self, client: &Client, letters: &[(u32, Offset)], redrive: bool) -> Result<u64, Failure> {
        // With a rate, a tenth of a second's worth at a time.
        let rate = self.rate.unwrap_or(u32::MAX);
        let many = usize::try_from(rate / 10).unwrap_or(usize::MAX).clamp(1, 1_000);
        let pause = self.rate.map(|rate| Duration::from_secs_f64(many as f64 / f64::from(rate)));
        let mut ticks = pause.map(|pause| {
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let mut done = 0;
        for letters in letters.chunks(many) {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let name = self.subscription.clone();
            done += match redrive {
                true => client.redrive(name, letters.to_vec()).await?,
                false => client.purge(name, letters.to_vec()).await?,
            };
        }
        Ok(done)
    }
}

/// Where no letter was ever written, its topic is not there: that is no failure.
fn none_yet(walked: Result<(), Failure>) -> Result<(), Failure> {
    match walked {
        Err(failure) if failure.code() == Some(millstream_client::ErrorCode::UnknownTopic) => Ok(()),
        walked => walked,
    }
}

fn place(text: &str) -> Result<(u32, Offset), String> {
    let parsed = text
        .split_once(':')
        .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?} is no letter: write PARTITION:OFFSET, as in 0:17"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?}: write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
