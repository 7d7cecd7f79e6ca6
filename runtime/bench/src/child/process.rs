//! A child process: ended with its owner, and what the system says of it.

use std::process::{ChildStdout, Command};

use crate::Error;

/// A child process; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: std::process::Child,
    command: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self, Error> {
        let shown = format!("{command:?}");
        let child = command.spawn().map_err(Error::io(format!("start `{shown}`")))?;
        Ok(Self { child, command: shown })
    }

    pub(super) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// An error about this process.
    pub(crate) fn failed(&self, what: String) -> Error {
        Error::Child { command: self.command.clone(), what }
    }

    /// Resident memory in bytes; `None` where there is no `/proc`.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        resident_bytes(&status)
    }

    /// CPU time used so far, in user and system mode; `None` where there is no `/proc`.
    pub(crate) fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        #[expect(clippy::cast_precision_loss, reason = "ticks of a run stay far below 2^52")]
        Some(cpu_ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of this process in bytes; `None` where there is no `/proc`.
pub(crate) fn own_resident_bytes() -> Option<u64> {
    resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// From `/proc/PID/status` (proc_pid_status(5)).
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// From `/proc/PID/stat` (proc_pid_stat(5)): fields 14 and 15, counted behind the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_cpu_time_are_read_from_proc() {
        assert_eq!(resident_bytes("VmHWM:\t  999 kB\nVmRSS:\t   20480 kB\nThreads: 4\n"), Some(20 << 20));
        assert_eq!(resident_bytes("Name: x\n"), None);
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), Some(281));
        assert_eq!(cpu_ticks("77 (cut) S 1"), None);
    }

    #[test]
    fn a_process_is_killed_with_its_owner() {
        let mut process = Process::start(Command::new("sleep").arg("600")).unwrap();
        assert!(!process.has_ended());
        let id = process.child.id();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
