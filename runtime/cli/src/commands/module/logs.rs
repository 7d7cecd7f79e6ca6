//! `millstream module logs`: what modules write, and what happens to them.

use clap::Args;
use millstream_client::{ModuleLogFilter, ModuleLogLevel, ModuleLogLine, SubscriptionName};

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

fn show(line: &ModuleLogLine) -> String {
    let ModuleLogLine { time_ms, subscription, module, level, text, left_out } = line;
    let left_out = if *left_out > 0 { format!("({left_out} left out) ") } else { String::new() };
    // A module may write what would move the cursor.
    let text: String =
        text.chars().map(|it| if it.is_control() && it != '\n' { '\u{fffd}' } else { it }).collect();
    format!("{} {:5} {subscription} {module} {left_out}{text}", output::time(*time_ms), level.as_str())
}
