//! Compiling in a process of its own: a compiler cannot be interrupted, and where it fails it takes its process along.
//!
//! The process is this same program, started with an order in JSON as its last argument: the component comes on standard
//! input, the compiled form goes to standard output, and what is wrong with the component to standard error, with exit
//! code 1. It limits itself before it reads anything. What it gives back is trusted as what is compiled here would be.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use crate::LoadError;
use crate::limits::{
    COMPILE_ADDRESS_BYTES, COMPILE_ADDRESSES_PER_BYTE, COMPILE_NICE, COMPILE_WALL_RATIO, COMPILED_BYTES,
    COMPILED_PER_BYTE, TEXT_BYTES_MAX,
};
use crate::settings::{self, Target};

/// A program that compiles modules: its `main` hands its last argument to [`run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// The program. It must be of the very build that runs the modules.
    pub program: PathBuf,
    /// What it is given before the order.
    pub args: Vec<String>,
}

/// What one process is to compile, and within which limits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    target: Target,
    cpu_ms: u64,
    address_bytes: u64,
}

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The order is none, or the process cannot limit itself.
    #[error("the compiler cannot be set up: {0}")]
    Setup(String),
    /// The component cannot be read, or what came of it not be written.
    #[error("the compiler cannot be talked to: {0}")]
    Io(#[from] io::Error),
    /// What is wrong with the component.
    #[error("{0}")]
    Invalid(String),
}

impl Compiler {
    /// This program itself, given `args` and the order: also where its file was replaced since it started.
    ///
    /// # Errors
    /// [`io::Error`] when the system does not tell where it is.
    pub fn this_program(args: Vec<String>) -> io::Result<Self> {
        let own = PathBuf::from("/proc/self/exe");
        let program = if own.exists() { own } else { std::env::current_exe()? };
        Ok(Self { program, args })
    }

    /// Has `wasm` compiled for `target` with at most `cpu_ms` of CPU time; the compiled form.
    pub(crate) fn compile(&self, wasm: &[u8], target: Target, cpu_ms: u64) -> Result<Vec<u8>, LoadError> {
        let bytes = wasm.len() as u64;
        let address_bytes = COMPILE_ADDRESS_BYTES + COMPILE_ADDRESSES_PER_BYTE * bytes;
        let order = Order { target, cpu_ms, address_bytes };
        let order = serde_json::to_string(&order).expect("numbers and flags are JSON");
        let unavailable = |what: &str, error: &dyn std::fmt::Display| {
            LoadError::CompilerUnavailable(format!("{what} {}: {error}", self.program.display()))
        };
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .arg(order)
            // Nothing of the environment has a say in what code comes of a module.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| unavailable("cannot start", &error))?;
        let wall = Duration::from_millis(cpu_ms).saturating_mul(COMPILE_WALL_RATIO);
        let compiled_max = COMPILED_BYTES + COMPILED_PER_BYTE * bytes;
        let said = talk(&mut child, wasm, compiled_max, wall);
        // A process that has ended already is the only one that cannot be killed.
        if said.compiled.is_none() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|error| unavailable("cannot wait for", &error))?;
        let gave_up = |cause: String| {
            let cause = if said.words.is_empty() { cause } else { format!("{cause}: {}", said.words) };
            LoadError::Compiler { cause, addresses_mib: address_bytes >> 20 }
        };
        match (status.code(), said.compiled) {
            (_, None) => Err(LoadError::CompileTime { limit_ms: cpu_ms }),
            (_, Some(compiled)) if compiled.len() as u64 > compiled_max => {
                Err(gave_up(format!("it made more than {compiled_max} bytes")))
            }
            (Some(0), Some(compiled)) => Ok(compiled),
            (Some(INVALID), _) => Err(LoadError::Invalid(said.words)),
            (Some(UNUSABLE), _) => Err(LoadError::CompilerUnavailable(said.words)),
            _ if out_of_time(status) => Err(LoadError::CompileTime { limit_ms: cpu_ms }),
            _ => Err(gave_up(status.to_string())),
        }
    }
}

/// Exit code for a component that is not valid.
const INVALID: i32 = 1;
/// Exit code for an order or a system that is not as it should be.
const UNUSABLE: i32 = 3;

/// What a process wrote to its end.
struct Said {
    /// `None` where it was not done in time.
    compiled: Option<Vec<u8>>,
    /// Of its standard error.
    words: String,
}

/// Gives `wasm` to the process and takes what it says, for at most `wall`; on its own threads, since each may have to wait.
fn talk(child: &mut Child, wasm: &[u8], compiled_max: u64, wall: Duration) -> Said {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Said { compiled: Some(Vec::new()), words: String::new() };
    };
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // Fails where the process ended first: its exit code says more.
        scope.spawn(move || drop(stdin.write_all(wasm)));
        let words = scope.spawn(move || {
            let mut words = Vec::new();
            let mut limited = stderr.take(TEXT_BYTES_MAX as u64);
            let _ = limited.read_to_end(&mut words);
            // What is beyond is read and forgotten, so that the process does not wait.
            let _ = io::copy(&mut limited.into_inner(), &mut io::sink());
            String::from_utf8_lossy(&words).trim().to_owned()
        });
        let compiled = scope.spawn(move || {
            let mut compiled = Vec::new();
            // One more than may be, so that too much is seen.
            let _ = stdout.take(compiled_max + 1).read_to_end(&mut compiled);
            drop(done);
            compiled
        });
        let in_time = is_done.recv_timeout(wall) != Err(mpsc::RecvTimeoutError::Timeout);
        if !in_time {
            // Its pipes end with it, and so do the threads.
            let _ = child.kill();
        }
        let compiled = compiled.join().unwrap_or_default();
        Said { compiled: in_time.then_some(compiled), words: words.join().unwrap_or_default() }
    })
}

/// Whether the system ended a process for having used its CPU time.
fn out_of_time(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(Signal::XCPU.as_raw())
}

/// What the process does: compiles as `order` says what comes from `input`, and writes it to `output`. Limits the whole process, so
/// nothing else may go on in it.
///
/// # Errors
/// [`CompileError`], to be written to standard error, and the exit code to end with.
pub fn run(order: &str, input: impl Read, output: impl Write) -> Result<(), CompileError> {
    let order: Order = serde_json::from_str(order).map_err(|error| CompileError::Setup(error.to_string()))?;
    limit(&order)?;
    compile(&order, input, output)
}

impl CompileError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        let code = match self {
            Self::Invalid(_) => INVALID,
            Self::Setup(_) | Self::Io(_) => UNUSABLE,
        };
        u8::try_from(code).expect("both are small")
    }
}

fn compile(order: &Order, mut input: impl Read, mut output: impl Write) -> Result<(), CompileError> {
    let mut wasm = Vec::new();
    input.read_to_end(&mut wasm)?;
    let engine = Engine::new(&settings::compiling(order.target))
        .map_err(|error| CompileError::Setup(format!("{error:#}")))?;
    let compiled =
        engine.precompile_component(&wasm).map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
    output.write_all(&compiled)?;
    output.flush()?;
    Ok(())
}

fn limit(order: &Order) -> Result<(), CompileError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| CompileError::Setup(format!("cannot limit its {what}: {error}"))
    };
    // Not left behind by a broker that was killed.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("life"))?;
    // Where memory is short, this process goes and not the broker. Not every system has it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let at_most = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let seconds = order.cpu_ms.div_ceil(1_000);
    // At the first the system sends SIGXCPU, by which it is known what happened; at the second SIGKILL.
    let cpu = Rlimit { current: Some(seconds), maximum: Some(seconds + 1) };
    setrlimit(Resource::Cpu, cpu).map_err(failed("CPU time"))?;
    setrlimit(Resource::As, at_most(order.address_bytes)).map_err(failed("memory"))?;
    setrlimit(Resource::Core, at_most(0)).map_err(failed("core file"))?;
    setrlimit(Resource::Fsize, at_most(0)).map_err(failed("files"))?;
    nice(COMPILE_NICE).map_err(failed("priority"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn who_compiles_needs_no_pool_to_make_the_same_code() {
        let settings = Settings { instances_max: 2, ..Settings::default() };
        for target in [Target::roomy(&settings), Target::cramped(&settings)] {
            let wasm =
                wat::parse_str("(component (core module (func (export \"f\") (result i32) i32.const 7)))");
            let mut compiled = Vec::new();
            let order = Order { target, cpu_ms: 1, address_bytes: 1 };
            compile(&order, wasm.unwrap().as_slice(), &mut compiled).unwrap();
            let running = Engine::new(&settings::running(&settings, target)).unwrap();
            crate::compiled::load(&running, &compiled).unwrap();
        }
    }

    #[test]
    fn an_order_that_is_none_limits_nothing() {
        let error = run("{}", io::empty(), io::sink()).unwrap_err();
        assert!(matches!(error, CompileError::Setup(_)), "{error}");
        assert_eq!(error.exit_code(), 3);
    }
}
