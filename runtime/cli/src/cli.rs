//! The command line as a whole: what every command shares, and the list of commands.

use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use millstream_client::Url;

use crate::{commands, failure::Failure};

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused or failed; the reason is on standard error
  2  wrong usage

Results go to standard output, everything else to standard error.

Examples:
  millstream serve --data ./data
  export MILLSTREAM_URL=\"$(cat ./data/client.url)\"
  millstream topic create flights --partitions 4
  millstream publish flights flights.csv --format csv --key carrier
  millstream subscribe flights --from earliest --until-end --format json \\
      --module std/json --config '{\"pointer\": \"/dep_delay\", \"gt\": 60}'";

/// A message broker that stores, streams, and runs your WASM modules on each subscription.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the broker is: `millstream://HOST[:PORT]?ca=FILE` or `?pin=sha256:HEX`. `millstream serve` prints it and
    /// writes it to DIR/client.url
    #[arg(long, global = true, env = "MILLSTREAM_URL", value_name = "URL")]
    pub(crate) url: Option<Url>,
    /// Results as JSON: one object, or one a line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Longest wait for a connection
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// A connection over which nothing was heard for so long is lost, from 1s to 1h; the broker's 30s hold if they are less
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = idle)]
    pub(crate) idle_timeout: Duration,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(commands::serve::Serve),
    /// Create, list, describe, update and delete topics
    #[command(subcommand)]
    Topic(commands::topic::Topic),
    /// Publish lines, JSON or CSV from a file or standard input
    Publish(commands::publish::Publish),
    /// Print a topic's records as they come, judged by modules in the broker
    Subscribe(commands::subscribe::Subscribe),
    /// Join a subscription's workers, and run a command for each record
    Work(commands::work::Work),
    /// List, show, send back and purge dead letters
    #[command(subcommand)]
    Dlq(commands::dlq::Dlq),
    /// Build, test, sign, push, list, describe, export and delete modules
    #[command(subcommand)]
    Module(commands::module::Module),
    /// Create, list, describe and delete durable subscriptions
    #[command(subcommand)]
    Subscription(commands::subscription::Subscription),
    /// Create, list, describe, pause, resume and delete processors: modules that remember, from topics to topics
    #[command(subcommand)]
    Processor(commands::processor::Processor),
    /// Measure this machine and Millstream on it
    Bench(commands::bench::Bench),
    #[command(hide = true)]
    CompileModule(commands::compile_module::CompileModule),
}

impl Cli {
    /// The command line of this process; ends it with what is wrong, or with the help that was asked for.
    pub(crate) fn read() -> Self {
        Self::read_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// As [`Parser::try_parse_from`], but what arguments say when they are put together comes with the usage of their own
    /// command: clap tells that of the whole.
    fn read_from(
        line: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let mut matches = command.try_get_matches_from_mut(line)?;
        let (mut names, mut inner) = (Vec::new(), &matches);
        while let Some((name, found)) = inner.subcommand() {
            names.push(name.to_owned());
            inner = found;
        }
        Self::from_arg_matches_mut(&mut matches).map_err(|error| {
            let own = names.iter().try_fold(&mut command, |outer, name| outer.find_subcommand_mut(name));
            match own {
                Some(own) => error.format(own),
                None => error,
            }
        })
    }

    /// Runs the command to its end.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self { common, command } = self;
        match command {
            Command::Serve(serve) => wait(serve.run(&common)),
            Command::Bench(bench) => wait(bench.run(&common)),
            Command::CompileModule(compile) => compile.run(),
            Command::Topic(topic) => wait(topic.run(&common)),
            Command::Publish(publish) => wait(publish.run(&common)),
            Command::Subscribe(subscribe) => wait(subscribe.run(&common)),
            Command::Work(work) => wait(work.run(&common)),
            Command::Dlq(dlq) => wait(dlq.run(&common)),
            Command::Module(module) => module.run(&common),
            Command::Subscription(subscription) => wait(subscription.run(&common)),
            Command::Processor(processor) => wait(processor.run(&common)),
        }
    }
}

/// Runs a command that talks to the broker.
pub(crate) fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(command);
    // A thread may still be reading standard input: it is not waited for.
    runtime.shutdown_background();
    outcome
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 5s or 2min"))?;
    if duration.is_zero() { Err("must be longer than nothing".into()) } else { Ok(duration) }
}

fn idle(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Duration::from_secs(3_600);
    let idle = duration(text)?;
    if range.contains(&idle) { Ok(idle) } else { Err("no connection lasts so: write 1s to 1h".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        assert!(duration("5").unwrap_err().contains("5s"));
        assert!(duration("0s").is_err());
        assert_eq!(idle("1s"), Ok(Duration::from_secs(1)));
        assert!(idle("10ms").unwrap_err().contains("1s to 1h") && idle("2h").is_err());
    }

    #[test]
    fn wrong_usage_is_code_2() {
        for line in [
            &["millstream", "topic", "create", "a..b"] as &[_],
            &["millstream", "publish", "t", "--format", "xml"],
            &["millstream", "subscribe", "t", "--config", "{}"],
            &["millstream", "subscribe", "t", "--from", "yesterday"],
            &["millstream", "topic", "list", "--url", "http://x"],
            &["millstream"],
        ] {
            let error = Cli::read_from(line).expect_err(line[1..].concat().as_str());
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let error =
            Cli::read_from(["millstream", "subscribe", "t", "--config", "{}"]).expect_err("no module");
        let told = error.to_string();
        assert!(told.contains("Usage: millstream subscribe [OPTIONS] <TOPIC>"), "{told}");
    }
}
