//! `millstream module logs`: what modules write, and what happens to them.

use clap::Args;
use millstream_client::{
    CallError, Client, ErrorCode, ModuleLogFilter, ModuleLogLevel, ModuleLogLine, SubscriptionName,
};

use crate::{broker::connect, cli::Common, failure::Failure, output};

const EXAMPLES: &str = "Beside what modules write, these lines tell of records that they reject or fail on, with topic, partition and offset. The
broker keeps the last 1,000 lines of all modules, and writes all of them to its own log as well.

Example:
  millstream module logs -f --subscription invoices --level warn";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Logs {
    /// Show further lines as they come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Show so many of the last lines first
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    last: u32,
    /// Of this subscription alone
    #[arg(long, value_name = "NAME")]
    subscription: Option<SubscriptionName>,
    /// Of this module alone: NAME@VERSION, or NAME for all its versions
    #[arg(long, value_name = "REF")]
    module: Option<String>,
    /// Of this importance or above: trace, debug, info, warn, error, panic
    #[arg(long, default_value = "trace")]
    level: ModuleLogLevel,
}

impl Logs {
    /// Runs the command.
    pub(crate) async fn run(self, common: &Common) -> Result<(), Failure> {
        let Self { follow, last, subscription, module, level } = self;
        let client = connect(common).await?;
        warn_of_unknown(&client, subscription.as_ref(), module.as_deref()).await?;
        let filter = ModuleLogFilter { subscription, module, level };
        let mut log = client.module_log(filter, last, follow).await?;
        while let Some(line) = log.next().await? {
            match common.json {
                true => output::json(&line)?,
                false => output::line(show(&line))?,
            }
        }
        client.close().await;
        Ok(())
    }
}

/// Lines may be there of what is gone, and may come of what is made later, so a name that nothing has is no error.
async fn warn_of_unknown(
    client: &Client,
    subscription: Option<&SubscriptionName>,
    module: Option<&str>,
) -> Result<(), CallError> {
    if let Some(name) = subscription {
        let topic = name.as_str().strip_prefix("ingest.").and_then(|topic| topic.parse().ok());
        let of_topic = match topic {
            Some(topic) => is_there(client.describe_topic(topic).await)?,
            None => false,
        };
        if !of_topic && !is_there(client.describe_subscription(name.clone()).await)? {
            eprintln!(
                "there is no subscription or processor {name} now, and no topic that it would be the ingest of (ingest.TOPIC): \
                 see `millstream subscription list`"
            );
        }
    }
    if let Some(wanted) = module {
        let of_name =
            |name: &str| name == wanted || name.split_once('@').is_some_and(|(name, _)| name == wanted);
        if !client.list_modules().await?.iter().any(|module| of_name(module.name.as_str())) {
            eprintln!("there is no module {wanted} now: see `millstream module list`");
        }
    }
    Ok(())
}

/// Whether something was found; errors are those other than that it is not there.
fn is_there<T>(found: Result<T, CallError>) -> Result<bool, CallError> {
    match found {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(error.code(), Some(ErrorCode::UnknownSubscription | ErrorCode::UnknownTopic)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn show(line: &ModuleLogLine) -> String {
    let ModuleLogLine { time_ms, subscription, module, level, text, left_out } = line;
    let left_out = if *left_out > 0 { format!("({left_out} left out) ") } else { String::new() };
    // A module may write what would move the cursor.
    let text: String =
        text.chars().map(|it| if it.is_control() && it != '\n' { '\u{fffd}' } else { it }).collect();
    format!("{} {:5} {subscription} {module} {left_out}{text}", output::time(*time_ms), level.as_str())
}
