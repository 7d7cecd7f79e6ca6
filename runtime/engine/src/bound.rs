//! A module bound to a place with a configuration: judges batches, and survives its own faults.

use millstream_types::{BatchView, Check, VerdictsView};

use crate::contract::{CONTRACT, GuestSetup};
use crate::fault::{Fault, FaultKind};
use crate::instance::Instance;
use crate::limits::{CALL_BYTES_MAX, CONFIG_BYTES_MAX, Limits};
use crate::log::{Log, LogSink};
use crate::spec::Announced;
use crate::{BindError, Module, Setup, Spec};

/// A module bound to a place. Not shared: one thread at a time runs it.
///
/// After a fault its instance is gone; the next call makes and configures another.
pub struct Bound {
    module: Module,
    setup: Setup,
    limits: Limits,
    announced: Announced,
    state: State,
    /// Whether the last call was the first of its instance.
    fresh: bool,
}

/// An instance, or the log that waits for the next one.
enum State {
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
        let log = Log::new(log, &limits);
        let (instance, spec) = start(&module, &setup, &limits, log).map_err(|(error, _)| error)?;
        let announced = Announced::new(spec);
        Ok(Self { module, setup, limits, announced, state: State::Ready(instance), fresh: true })
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
        let (_, result) = self.call(batch);
        let bytes = result?;
        self.check(&bytes, records)?;
        Ok(VerdictBuffer { bytes, records })
    }

    /// Gives the instance up, with the memory it holds. The next call makes another.
    pub fn rest(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Between) {
            State::Ready(instance) => State::Resting(instance.into_log()),
            other => other,
        };
    }

    /// Calls `process`; the time in the guest, and its answer unchecked.
    pub(crate) fn call(&mut self, batch: &[u8]) -> (u64, Result<Vec<u8>, Fault>) {
        if let Err(fault) = self.wake() {
            return (0, Err(fault));
        }
        let State::Ready(instance) = &mut self.state else {
            return (0, Err(Fault::new(FaultKind::Unusable, "the module has no instance")));
        };
        let called = instance.process(&self.module.engine, batch, &self.limits);
        // An instance that asked for a retry, or refused in order, is sound.
        let sound = match &called.result {
            Ok(_) => true,
            Err(fault) => matches!(fault.kind, FaultKind::Retry | FaultKind::Reject),
        };
        self.fresh = called.fresh;
        if !sound {
            self.rest();
        }
        (called.nanos, called.result)
    }

    /// Checks an answer of [`call`](Self::call) and reads it.
    pub(crate) fn check<'a>(&mut self, bytes: &'a [u8], records: usize) -> Result<VerdictsView<'a>, Fault> {
        let checked = VerdictsView::new(bytes, records)
            .map_err(|error| Fault::new(FaultKind::BadVerdicts, error.to_string()))
            .and_then(|verdicts| self.announced.check(&verdicts).map(|()| verdicts));
        if checked.is_err() {
            self.rest();
        }
        let fresh = self.fresh;
        checked.map_err(|fault| Fault { fresh, ..fault })
    }

    pub(crate) fn announced(&mut self) -> &mut Announced {
        &mut self.announced
    }

    fn wake(&mut self) -> Result<(), Fault> {
        if let State::Ready(_) = self.state {
            return Ok(());
        }
        let log = match std::mem::replace(&mut self.state, State::Between) {
            State::Resting(log) => log,
            _ => Log::new(LogSink::none(), &self.limits),
        };
        match start(&self.module, &self.setup, &self.limits, log) {
            Ok((instance, spec)) if spec == self.announced.spec => {
                self.state = State::Ready(instance);
                Ok(())
            }
            Ok((instance, _)) => {
                self.state = State::Resting(instance.into_log());
                Err(Fault::new(FaultKind::Unusable, "`configure` announces something else than before"))
            }
            Err((error, log)) => {
                self.state = State::Resting(log);
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
    let mut instance = Instance::new(&module.engine, &module.loaded.pre, log, limits)
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
        Ok(spec) => Ok((instance, spec)),
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
