//! A module bound to a place with a configuration: judges batches, and survives its own faults.

use std::time::{Duration, Instant};

use millstream_types::{BatchView, Check, ModuleMetrics, VerdictsView};

use crate::contract::{CONTRACT, GuestSetup};
use crate::fault::{Fault, FaultKind};
use crate::instance::{Instance, nanos_since};
use crate::limits::{CALL_BYTES_MAX, CONFIG_BYTES_MAX, Isolation, Limits};
use crate::log::{Log, LogSink};
use crate::spec::Announced;
use crate::state::Layer;
use crate::{BindError, Module, Setup, Spec, State};

/// A module bound to a place. Not shared: one thread at a time runs it.
///
/// After a fault its instance is gone; the next call makes and configures another.
pub struct Bound {
    module: Module,
    setup: Setup,
    limits: Limits,
    announced: Announced,
    running: Running,
    /// Whether the last call was the first of its instance.
    fresh: bool,
    memory_bytes_peak: usize,
    /// What its last call counted, which is not checked yet.
    counted: ModuleMetrics,
    /// What all calls counted that went well, since this was asked last.
    metrics: ModuleMetrics,
}

/// Time and cost of a call, and its answer unchecked.
pub(crate) struct Call {
    pub(crate) nanos: u64,
    /// What it took to make its instance and to configure it, where it had none.
    pub(crate) start_nanos: u64,
    pub(crate) fuel: u64,
    pub(crate) result: Result<Vec<u8>, Fault>,
}

/// An instance, or the log that waits for the next one.
enum Running {
    Ready(Instance),
    Resting(Log),
    /// Only while an instance is being made.
    Between,
}

/// The verdicts of one call, checked.
#[derive(Debug, Clone)]
pub struct VerdictBuffer {
    bytes: Vec<u8>,
    records: usize,
}

impl VerdictBuffer {
    /// The verdicts, to be read in place.
    pub fn view(&self) -> VerdictsView<'_> {
        VerdictsView::new(&self.bytes, self.records).expect("checked when the module gave them")
    }

    /// The buffer as the module gave it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bound {
    pub(crate) fn new(module: Module, setup: Setup, limits: Limits, log: LogSink) -> Result<Self, BindError> {
        if setup.config.len() > CONFIG_BYTES_MAX {
            let found = setup.config.len();
            return Err(BindError::Config(format!("{found} bytes, above the limit of {CONFIG_BYTES_MAX}")));
        }
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&setup.config) {
            return Err(BindError::Config(error.to_string()));
        }
        if let Some(schema) = &module.loaded.schema {
            schema.check(&setup.config).map_err(BindError::ConfigFields)?;
        }
        if module.needs_state() && setup.state.is_none() {
            return Err(BindError::NeedsState);
        }
        let log = Log::new(log, &limits);
        let (instance, spec) = start(&module, &setup, &limits, log).map_err(|(error, _)| error)?;
        let announced = Announced::new(spec);
        let memory_bytes_peak = instance.memory_bytes();
        let running = Running::Ready(instance);
        Ok(Self {
            module,
            setup,
            limits,
            announced,
            running,
            fresh: true,
            memory_bytes_peak,
            counted: ModuleMetrics::default(),
            metrics: ModuleMetrics::default(),
        })
    }

    /// What the module announced.
    pub fn spec(&self) -> &Spec {
        &self.announced.spec
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Where it is bound.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Has the module judge `batch`, which has `records` records: payloads left out unless its spec reads them.
    ///
    /// # Errors
    /// [`Fault`] saying why there are no verdicts; the next call starts with a new instance.
    pub fn process(&mut self, batch: &[u8], records: usize) -> Result<VerdictBuffer, Fault> {
        debug_assert!(BatchView::new(batch, Check::Header).is_ok_and(|view| view.len() == records));
        let bytes = self.call(batch).result?;
        self.check(&bytes, records)?;
        Ok(VerdictBuffer { bytes, records })
    }

    /// Gives the instance up, with the memory it holds. The next call makes another.
    pub fn rest(&mut self) {
        self.running = match std::mem::replace(&mut self.running, Running::Between) {
            Running::Ready(instance) => Running::Resting(instance.into_log()),
            other => other,
        };
    }

    /// Gives the instance up and makes another; the time from there until it is configured.
    ///
    /// # Errors
    /// [`Fault`] saying why there is none.
    pub fn restart(&mut self) -> Result<Duration, Fault> {
        self.rest();
        let started = Instant::now();
        self.wake().map(|()| started.elapsed())
    }

    /// Most linear memory that an instance of this module has had here, in bytes.
    pub fn memory_bytes_peak(&self) -> usize {
        self.memory_bytes_peak
    }

    /// What the module counted since this was asked last.
    pub fn take_metrics(&mut self) -> ModuleMetrics {
        std::mem::take(&mut self.metrics)
    }

    /// Calls `process`.
    pub(crate) fn call(&mut self, batch: &[u8]) -> Call {
        if let Some(state) = self.state() {
            state.discard(Layer::Call);
        }
        let start = match self.running {
            Running::Ready(_) => None,
            _ => Some(Instant::now()),
        };
        let woken = self.wake();
        let start_nanos = start.map_or(0, nanos_since);
        let failed = |fault| Call { nanos: 0, start_nanos, fuel: 0, result: Err(fault) };
        if let Err(fault) = woken {
            return failed(fault);
        }
        let Running::Ready(instance) = &mut self.running else {
            return failed(Fault::new(FaultKind::Unusable, "the module has no instance"));
        };
        let called = instance.process(&self.module.engine, batch, &self.limits);
        // An instance that asked for a retry, or refused in order, is sound.
        let sound = match &called.result {
            Ok(_) => true,
            Err(fault) => matches!(fault.kind, FaultKind::Retry | FaultKind::Reject),
        };
        self.fresh = called.fresh;
        self.memory_bytes_peak = self.memory_bytes_peak.max(instance.memory_bytes());
        self.counted = instance.take_metrics();
        if !sound || self.limits.isolation == Isolation::Batch {
            self.rest();
        }
        Call { nanos: called.nanos, start_nanos, fuel: called.fuel, result: called.result }
    }

    /// Checks an answer of [`call`](Self::call) and reads it.
    pub(crate) fn check<'a>(&mut self, bytes: &'a [u8], records: usize) -> Result<VerdictsView<'a>, Fault> {
        let checked = VerdictsView::new(bytes, records)
            .map_err(|error| Fault::new(FaultKind::BadVerdicts, error.to_string()))
            .and_then(|verdicts| self.announced.check(&verdicts).map(|()| verdicts));
        match &checked {
            Ok(_) => {
                if let Some(state) = self.state() {
                    state.merge(Layer::Call);
                }
                if !self.counted.is_empty() {
                    self.metrics.merge(&std::mem::take(&mut self.counted));
                }
            }
            Err(_) => self.rest(),
        }
        let fresh = self.fresh;
        checked.map_err(|fault| Fault { fresh, ..fault })
    }

    pub(crate) fn announced(&mut self) -> &mut Announced {
        &mut self.announced
    }

    /// What it remembers, if it asks for that.
    pub(crate) fn state(&self) -> Option<&State> {
        self.setup.state.as_ref().filter(|_| self.module.needs_state())
    }

    fn wake(&mut self) -> Result<(), Fault> {
        if let Running::Ready(_) = self.running {
            return Ok(());
        }
        let log = match std::mem::replace(&mut self.running, Running::Between) {
            Running::Resting(log) => log,
            _ => Log::new(LogSink::none(), &self.limits),
        };
        match start(&self.module, &self.setup, &self.limits, log) {
            Ok((instance, spec)) if spec == self.announced.spec => {
                self.running = Running::Ready(instance);
                Ok(())
            }
            Ok((instance, _)) => {
                self.running = Running::Resting(instance.into_log());
                Err(Fault::new(FaultKind::Unusable, "`configure` announces something else than before"))
            }
            Err((error, log)) => {
                self.running = Running::Resting(log);
                Err(match error {
                    BindError::Instantiate(fault) if fault.kind == FaultKind::Busy => fault,
                    other => Fault::new(FaultKind::Unusable, other.to_string()),
                })
            }
        }
    }
}

/// Makes an instance and configures it.
fn start(
    module: &Module,
    setup: &Setup,
    limits: &Limits,
    log: Log,
) -> Result<(Instance, Spec), (BindError, Log)> {
    let mut instance = Instance::new(&module.engine, &module.loaded.pre, module.loaded.form, log, limits)
        .map_err(|(fault, log)| (BindError::Instantiate(fault), log))?;
    let guest_setup = GuestSetup {
        contract: CONTRACT,
        topic: setup.topic.clone(),
        subscription: setup.subscription.clone(),
        config: setup.config.clone(),
        output_bytes_max: limits.output_bytes(CALL_BYTES_MAX) as u64,
    };
    let configured = match instance.configure(&module.engine, guest_setup, limits) {
        Ok(Ok(spec)) => Spec::from_guest(spec),
        Ok(Err(text)) => Err(BindError::Refused(text)),
        Err(fault) => Err(BindError::Configure(fault)),
    };
    match configured {
        Ok(spec) => {
            instance.set_state(setup.state.clone().filter(|_| module.needs_state()));
            Ok((instance, spec))
        }
        Err(error) => Err((error, instance.into_log())),
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("module", &self.module)
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}
