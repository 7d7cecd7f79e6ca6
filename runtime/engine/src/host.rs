//! What the host keeps beside each instance: its limits, its log, and why it was stopped.

use std::time::{Duration, Instant};

use millstream_types::ModuleMetrics;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::Linker;
use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline};

use crate::contract::{GuestEntry, GuestLevel, LOG, METRICS, SOURCE, STATE};
use crate::fault::FaultKind;
use crate::limits::{Limits, TEXT_BYTES_MAX, TICK, WALL_RATIO};
use crate::log::{Log, LogLevel, cut};
use crate::state::State;

/// The data of a store.
#[derive(Debug)]
pub(crate) struct Host {
    log: Log,
    /// What the call in progress counts.
    metrics: ModuleMetrics,
    /// Of a processor, while it judges.
    state: Option<State>,
    panic: Option<String>,
    denied: Option<(FaultKind, String)>,
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements_max: usize,
    parts_max: usize,
    clock: Clock,
}

/// CPU time of the call in progress.
#[derive(Debug)]
struct Clock {
    limit: Duration,
    started: Instant,
    /// CPU time of the thread at the first tick of the call: reading it costs a system call, which short calls are
    /// spared.
    cpu_at_first_tick: Option<Duration>,
}

impl Host {
    pub(crate) fn new(log: Log, limits: &Limits) -> Self {
        Self {
            log,
            metrics: ModuleMetrics::default(),
            state: None,
            panic: None,
            denied: None,
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes,
            table_elements_max: limits.table_elements,
            parts_max: limits.parts,
            clock: Clock { limit: Duration::ZERO, started: Instant::now(), cpu_at_first_tick: None },
        }
    }

    /// Starts the clock of a call that may use `limit_ms` of CPU time.
    pub(crate) fn begin(&mut self, limit_ms: u64) {
        let limit = Duration::from_millis(limit_ms);
        self.clock = Clock { limit, started: Instant::now(), cpu_at_first_tick: None };
        self.denied = None;
        self.panic = None;
        self.metrics = ModuleMetrics::default();
    }

    /// What the call counted.
    pub(crate) fn take_metrics(&mut self) -> ModuleMetrics {
        std::mem::take(&mut self.metrics)
    }

    /// Gives the calls to come a state, or none.
    pub(crate) fn set_state(&mut self, state: Option<State>) {
        self.state = state;
    }

    /// Linear memory granted so far.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// When the call in progress, or the last one, began.
    pub(crate) fn started(&self) -> Instant {
        self.clock.started
    }

    /// CPU time that the call in progress may use, in ms.
    pub(crate) fn limit_ms(&self) -> u128 {
        self.clock.limit.as_millis()
    }

    /// What the panic hook of the guest said last.
    pub(crate) fn take_panic(&mut self) -> Option<String> {
        self.panic.take()
    }

    /// What the guest was refused during this call.
    pub(crate) fn take_denied(&mut self) -> Option<(FaultKind, String)> {
        self.denied.take()
    }

    /// Gives the log up, to be used by the next instance: its rate counts across instances.
    pub(crate) fn into_log(self) -> Log {
        self.log
    }

    /// What to do as the epoch deadline passes: on with it while CPU time is left.
    pub(crate) fn on_deadline(mut cx: StoreContextMut<'_, Self>) -> wasmtime::Result<UpdateDeadline> {
        Ok(match cx.data_mut().clock.left() {
            Some(left) => UpdateDeadline::Continue(ticks(left)),
            None => UpdateDeadline::Interrupt,
        })
    }

    /// The state, for a call of a guest; what goes wrong with it becomes a trap.
    fn with_state<T>(&mut self, ask: impl FnOnce(&State) -> Result<T, String>) -> wasmtime::Result<T> {
        let answer = match &self.state {
            Some(state) => ask(state),
            None => Err("the state is there while records are processed, not in `configure`".to_owned()),
        };
        answer.map_err(|cause| {
            self.denied = Some((FaultKind::State, cause.clone()));
            wasmtime::Error::msg(cause)
        })
    }

    fn write_log(&mut self, level: LogLevel, text: &str) {
        if level == LogLevel::Panic {
            self.panic = Some(cut(text, TEXT_BYTES_MAX).to_owned());
        }
        self.log.write(level, text);
    }
}

impl Clock {
    /// CPU time left; `None` when the call must end.
    fn left(&mut self) -> Option<Duration> {
        if self.started.elapsed() > self.limit * WALL_RATIO {
            return None;
        }
        let now = cpu_time();
        let first = *self.cpu_at_first_tick.get_or_insert(now);
        self.limit.checked_sub(now.saturating_sub(first)).filter(|left| !left.is_zero())
    }
}

/// CPU time that this thread has used. A call runs on one thread from its start to its end.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Ticks that cover `time`, at least one.
fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX).max(1)
}

/// The imports that a module may use.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(LOG)?.func_wrap(
        "write",
        |mut cx: StoreContextMut<'_, Host>, (level, text): (GuestLevel, String)| {
            let level = match level {
                GuestLevel::Trace => LogLevel::Trace,
                GuestLevel::Debug => LogLevel::Debug,
                GuestLevel::Info => LogLevel::Info,
                GuestLevel::Warn => LogLevel::Warn,
                GuestLevel::Error => LogLevel::Error,
                GuestLevel::Panic => LogLevel::Panic,
            };
            cx.data_mut().write_log(level, &text);
            Ok(())
        },
    )?;
    let mut metrics = linker.instance(METRICS)?;
    metrics.func_wrap("add", |mut cx: StoreContextMut<'_, Host>, (name, by): (String, u64)| {
        cx.data_mut().metrics.add(&name, by);
        Ok(())
    })?;
    metrics.func_wrap("set", |mut cx: StoreContextMut<'_, Host>, (name, to): (String, f64)| {
        cx.data_mut().metrics.set(&name, to);
        Ok(())
    })?;
    link_state(linker)?;
    let mut source = linker.instance(SOURCE)?;
    source.func_wrap("topic", |mut cx: StoreContextMut<'_, Host>, (): ()| {
        Ok((cx.data_mut().with_state(|state| Ok(state.topic()))?,))
    })?;
    source.func_wrap("partition", |mut cx: StoreContextMut<'_, Host>, (): ()| {
        Ok((cx.data_mut().with_state(|state| Ok(state.partition()))?,))
    })
}

fn link_state(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut state = linker.instance(STATE)?;
    state.func_wrap("get", |mut cx: StoreContextMut<'_, Host>, (key,): (Vec<u8>,)| {
        let value = cx.data_mut().with_state(|state| state.get(&key))?;
        Ok((value.map(Vec::from),))
    })?;
    state.func_wrap("put", |mut cx: StoreContextMut<'_, Host>, (key, value): (Vec<u8>, Vec<u8>)| {
        cx.data_mut().with_state(|state| state.put(key, value))
    })?;
    state.func_wrap("delete", |mut cx: StoreContextMut<'_, Host>, (key,): (Vec<u8>,)| {
        cx.data_mut().with_state(|state| state.delete(key))
    })?;
    state.func_wrap(
        "scan",
        |mut cx: StoreContextMut<'_, Host>, (prefix, after, limit): (Vec<u8>, Option<Vec<u8>>, u32)| {
            let entries = cx.data_mut().with_state(|state| state.scan(&prefix, after.as_deref(), limit))?;
            let entries = entries.into_iter();
            let entries = entries.map(|(key, value)| GuestEntry { key: key.into(), value: value.into() });
            Ok((entries.collect::<Vec<_>>(),))
        },
    )
}

impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            let max = self.memory_bytes_max;
            let denied = format!("wants {total} bytes of memory; its limit is {max}");
            self.denied = Some((FaultKind::Memory, denied));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.table_elements_max {
            let max = self.table_elements_max;
            let denied = format!("wants a table of {desired} elements; its limit is {max}");
            self.denied = Some((FaultKind::Memory, denied));
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.parts_max
    }

    fn tables(&self) -> usize {
        self.parts_max
    }

    fn memories(&self) -> usize {
        self.parts_max
    }
}
