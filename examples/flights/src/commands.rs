//! The commands that a user would type, printed and run.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use millstream_client::Url;
use serde_json::Value;

use crate::{Error, report::Report};

/// `millstream` with a broker.
pub(crate) struct Cli<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) url: &'a Url,
    pub(crate) report: &'a Report,
}

impl Cli<'_> {
    /// Prints the command line and runs it; its output is shown, too.
    pub(crate) fn run(&self, args: &[&str]) -> Result<(), Error> {
        self.spawn(args, None).map(drop)
    }

    /// The same with standard input, which `from` gives in the shell; answers the JSON that the command prints.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8], from: &str) -> Result<Value, Error> {
        let output = self.spawn(args, Some((input, from)))?;
        Ok(serde_json::from_str(&output).unwrap_or_default())
    }

    fn spawn(&self, args: &[&str], input: Option<(&[u8], &str)>) -> Result<String, Error> {
        let typed: Vec<_> = args.iter().map(|arg| quoted(arg)).collect();
        let line = format!("millstream {}", typed.join(" "));
        match input {
            Some((_, from)) => self.report.command(&format!("{from} | {line}")),
            None => self.report.command(&line),
        }
        let failed = |what: &str| Error::io(format!("{what} `{line}`"));
        let mut child = Command::new(self.binary)
            .args(args)
            .env("MILLSTREAM_URL", self.url.to_string())
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed("start"))?;
        let mut stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            if let (Some(stdin), Some((bytes, _))) = (stdin.take(), input) {
                // A command that gives up closes its input; its status tells.
                scope.spawn(move || {
                    let mut stdin = stdin;
                    let _ = stdin.write_all(bytes);
                });
            }
            child.wait_with_output()
        });
        let output = output.map_err(failed("wait for"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for shown in text.lines() {
            self.report.say(&format!("  {shown}"));
        }
        match output.status.success() {
            true => Ok(text),
            false => Err(Error::Command { line, status: output.status.to_string() }),
        }
    }
}

/// As a shell would need it.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:=,%+".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    }
}

/// The folder of a module that the demo builds.
pub(crate) fn module_dir(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join(name)
}
