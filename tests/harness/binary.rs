//! The real binary, as a user runs it.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::PATIENCE;

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its results.
    pub stdout: String,
    /// Everything else it said.
    pub stderr: String,
}

impl Output {
    /// Standard output, of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "failed: {}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error, of a command that must have failed with `code`.
    ///
    /// # Panics
    /// When it ended otherwise.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "ended otherwise: {}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// The built binary, which `make test` builds before it runs tests.
///
/// # Panics
/// When it was not built.
pub fn millstream() -> PathBuf {
    // Tests are built into target/PROFILE/deps, the binary next to that folder.
    let test = std::env::current_exe().expect("the test has a path");
    let folder = test.ancestors().nth(2).expect("target/PROFILE").to_owned();
    let binary = folder.join("millstream");
    assert!(binary.exists(), "{} is missing: run `cargo build -p millstream` first", binary.display());
    binary
}

/// A broker in a process of its own.
#[derive(Debug)]
pub struct Binary {
    child: Child,
    data: PathBuf,
    url: String,
}

impl Binary {
    /// Starts `millstream serve` on `data` and waits until it accepts connections.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve(data: &Path) -> Self {
        Self::serve_at(data, "127.0.0.1:0")
    }

    /// The same, listening at `address`.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve_at(data: &Path, address: &str) -> Self {
        Self::serve_with(data, &["--listen", address])
    }

    /// The same, with these flags.
    ///
    /// # Panics
    /// When it does not.
    pub fn serve_with(data: &Path, flags: &[&str]) -> Self {
        // Left behind by a broker that was killed.
        let _ = std::fs::remove_file(data.join("client.url"));
        let child = Command::new(millstream())
            .args(["serve", "--data"])
            .arg(data)
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let mut broker = Self { child, data: data.to_owned(), url: String::new() };
        broker.url = broker.wait_for_url();
        broker
    }

    /// What clients connect to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    ///
    /// # Panics
    /// When the URL has none.
    pub fn address(&self) -> &str {
        let address = self.url.strip_prefix("millstream://").and_then(|rest| rest.split(['?', '/']).next());
        address.expect("a URL has an address")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command against this broker.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        self.run_with(args, "")
    }

    /// Runs a command against this broker with `input` on its standard input.
    ///
    /// # Panics
    /// When the command cannot be run.
    pub fn run_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Output {
        let mut command = Command::new(millstream());
        command.args(args).env("MILLSTREAM_URL", &self.url);
        run(&mut command, input)
    }

    /// Kills it as a power switch would, as far as the process is concerned.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    fn wait_for_url(&mut self) -> String {
        let since = Instant::now();
        loop {
            if let Ok(url) = std::fs::read_to_string(self.data.join("client.url")) {
                return url.trim().to_owned();
            }
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                panic!("the broker ended before it was ready: {status}");
            }
            assert!(since.elapsed() < PATIENCE, "the broker was not ready in time");
            std::thread::yield_now();
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be run.
pub fn run(command: &mut Command, input: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("it was asked for");
    let input = input.as_bytes().to_vec();
    // On a thread: a command may answer before it has read everything, or not read at all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the command ends");
    writer.join().expect("the input was written");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
