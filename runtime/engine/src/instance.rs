//! One instance of a module: a store and its two functions.

use std::sync::Arc;
use std::time::Instant;

use millstream_types::ModuleMetrics;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentNamedList, Func, InstancePre, Lift, Lower};

use crate::contract::{
    CONFIGURE, ConfigureParams, ConfigureResults, Form, GuestSetup, GuestSpec, ProcessParams, ProcessResults,
};
use crate::engine::Shared;
use crate::fault::{Fault, FaultKind};
use crate::host::Host;
use crate::limits::{Limits, TEXT_BYTES_MAX};
use crate::log::{Log, cut};
use crate::typed;
use crate::{LoadError, State};

/// One instance. Of no more use once a call has failed.
pub(crate) struct Instance {
    store: Store<Host>,
    configure: Func,
    /// Of the type that `form` says.
    process: Func,
    form: Form,
    calls: u64,
    counts_fuel: bool,
}

/// Time of a call and what came of it.
pub(crate) struct Called<T> {
    pub(crate) nanos: u64,
    /// 0 unless the engine counts it.
    pub(crate) fuel: u64,
    /// Whether it was the first call of its instance.
    pub(crate) fresh: bool,
    pub(crate) result: Result<T, Fault>,
}

impl Instance {
    /// Instantiates within `limits`. The log comes back with an error, to serve the next one.
    pub(crate) fn new(
        engine: &Shared,
        pre: &InstancePre<Host>,
        form: Form,
        log: Log,
        limits: &Limits,
    ) -> Result<Self, (Fault, Log)> {
        let mut store = Store::new(&engine.wasmtime, Host::new(log, limits));
        store.limiter(|host| host);
        store.epoch_deadline_callback(Host::on_deadline);
        store.set_epoch_deadline(1);
        store.data_mut().begin(limits.configure_ms);
        let counts_fuel = engine.counts_fuel;
        if counts_fuel {
            refuel(&mut store);
        }
        let _running = engine.ticker.enter();
        let made = pre.instantiate(&mut store).and_then(|instance| {
            let func = |store: &mut Store<Host>, name| {
                instance.get_func(store, name).ok_or_else(|| wasmtime::format_err!("no export `{name}`"))
            };
            Ok((func(&mut store, CONFIGURE)?, func(&mut store, form.export())?))
        });
        match made {
            Ok((configure, process)) => Ok(Self { store, configure, process, form, calls: 0, counts_fuel }),
            Err(error) => {
                let mut fault = Fault::from_call(&error, store.data_mut());
                if fault.kind == FaultKind::Trap {
                    fault = Fault::new(FaultKind::Unusable, fault.text);
                }
                Err((fault, store.into_data().into_log()))
            }
        }
    }

    /// Whether both functions have the types of the contract.
    pub(crate) fn check_types(component: &Component, form: Form) -> Result<(), LoadError> {
        check_type::<ConfigureParams, ConfigureResults>(component, CONFIGURE)?;
        match form {
            Form::Batch => check_type::<ProcessParams<'_>, ProcessResults>(component, form.export()),
            Form::Records => check_type::<typed::Params<'_>, typed::Results>(component, form.export()),
        }
    }

    /// Calls `configure`; `Ok(Err(text))` when the module refuses.
    pub(crate) fn configure(
        &mut self,
        engine: &Shared,
        setup: GuestSetup,
        limits: &Limits,
    ) -> Result<Result<GuestSpec, String>, Fault> {
        self.begin(limits.configure_ms, limits.output_slack_bytes);
        let _running = engine.ticker.enter();
        let result = self
            .configure
            .typed::<ConfigureParams, ConfigureResults>(&self.store)
            .and_then(|configure| configure.call(&mut self.store, (setup,)));
        match result {
            Ok((Ok(spec),)) => Ok(Ok(spec)),
            Ok((Err(text),)) => Ok(Err(cut(&text, TEXT_BYTES_MAX).to_owned())),
            Err(error) => Err(Fault::from_call(&error, self.store.data_mut())),
        }
    }

    /// Calls the function that judges, on the bytes of a batch or what they stand for; the answer is a verdict buffer.
    pub(crate) fn process(&mut self, engine: &Shared, batch: &[u8], limits: &Limits) -> Called<Vec<u8>> {
        self.begin(limits.call_ms, limits.output_bytes(batch.len()));
        let fresh = self.calls == 0;
        self.calls += 1;
        let result = {
            let _running = engine.ticker.enter();
            match self.form {
                Form::Batch => self
                    .process
                    .typed::<ProcessParams<'_>, ProcessResults>(&self.store)
                    .and_then(|process| process.call(&mut self.store, (batch,)))
                    .map(|(answer,)| answer.map_err(Fault::from)),
                Form::Records => typed::call(&self.process, &mut self.store, batch),
            }
        };
        let result = result.unwrap_or_else(|error| Err(Fault::from_call(&error, self.store.data_mut())));
        let nanos = nanos_since(self.store.data().started());
        let fuel = if self.counts_fuel { self.store.get_fuel().map_or(0, |left| FUEL - left) } else { 0 };
        Called { nanos, fuel, fresh, result: result.map_err(|fault| Fault { fresh, ..fault }) }
    }

    /// Gives the calls to come a state, or none.
    pub(crate) fn set_state(&mut self, state: Option<State>) {
        self.store.data_mut().set_state(state);
    }

    /// What the last call counted.
    pub(crate) fn take_metrics(&mut self) -> ModuleMetrics {
        self.store.data_mut().take_metrics()
    }

    /// Linear memory that it has: a memory never shrinks.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes()
    }

    /// Ends the instance and gives its log to the next one.
    pub(crate) fn into_log(self) -> Log {
        self.store.into_data().into_log()
    }

    fn begin(&mut self, limit_ms: u64, output_bytes: usize) {
        self.store.data_mut().begin(limit_ms);
        // The first tick only starts the CPU clock: see `Host::on_deadline`.
        self.store.set_epoch_deadline(1);
        self.store.set_hostcall_fuel(output_bytes);
        if self.counts_fuel {
            refuel(&mut self.store);
        }
    }
}

/// More than any call can use: calls are limited by their CPU time.
const FUEL: u64 = u64::MAX;

fn refuel(store: &mut Store<Host>) {
    store.set_fuel(FUEL).expect("only for an engine that counts fuel");
}

fn check_type<P, R>(component: &Component, export: &'static str) -> Result<(), LoadError>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let ty = component.component_type();
    match ty.get_export(component.engine(), export).map(|item| item.ty) {
        Some(ComponentItem::ComponentFunc(func)) => func
            .typecheck::<P, R>(&ty.instance_type())
            .map_err(|error| LoadError::ExportType { export, text: format!("{error:#}") }),
        _ => Err(LoadError::MissingExport(export)),
    }
}

/// Since `start`, in ns.
pub(crate) fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

// An instance moves between worker threads with its pipeline.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Instance>();
    is_send::<Arc<Shared>>();
};
