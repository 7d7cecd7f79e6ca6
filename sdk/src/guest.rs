//! The guest's side of the contract: exports, log import and panic hook.

use std::any::Any;
use std::cell::OnceCell;
use std::marker::PhantomData;
use std::panic::PanicHookInfo;

use self::bindings::millstream::module::{log, metrics, source, state, types};
use crate::bound::Bound;
use crate::{Failure, Level, Module, Setup};

/// Generated from `wit/module.wit`.
#[expect(missing_docs, reason = "generated: the names are those of the contract")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "module",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "millstream_sdk::__private::bindings",
    });
}

/// Exports module `M` of a crate.
pub struct Exported<M>(PhantomData<M>);

thread_local! {
    // A crate exports one module, and a guest has one thread; the type is known again in `process`.
    static BOUND: OnceCell<Box<dyn Any>> = const { OnceCell::new() };
}

impl<M: Module> bindings::Guest for Exported<M> {
    fn configure(setup: types::Setup) -> Result<types::Spec, String> {
        std::panic::set_hook(Box::new(report_panic));
        let (bound, spec) = Bound::<M>::new(&Setup {
            contract: setup.contract,
            topic: setup.topic,
            subscription: setup.subscription,
            config: setup.config,
            output_bytes_max: setup.output_bytes_max,
        })?;
        BOUND
            .with(|cell| cell.set(Box::new(bound)))
            .map_err(|_| "configure was called twice; a new configuration needs a new instance".to_owned())?;
        let (given, flag) = (spec.verdicts, types::Verdicts::empty);
        let only = |on: bool, verdict: types::Verdicts| if on { verdict } else { flag() };
        Ok(types::Spec {
            fields: if spec.reads_payload { types::Fields::PAYLOAD } else { types::Fields::empty() },
            verdicts: only(given.keep, types::Verdicts::KEEP)
                | only(given.drop, types::Verdicts::DROP)
                | only(given.emit, types::Verdicts::EMIT)
                | only(given.reject, types::Verdicts::REJECT),
            topics: spec.topics,
        })
    }

    fn process(batch: Vec<u8>) -> Result<Vec<u8>, types::Failure> {
        BOUND.with(|cell| {
            let bound = cell.get().and_then(|bound| bound.downcast_ref::<Bound<M>>());
            let bound =
                bound.ok_or_else(|| types::Failure::Reject("process was called before configure".into()))?;
            bound.process(&batch).map_err(|failure| match failure {
                Failure::Retry(why) => types::Failure::Retry(why),
                Failure::Reject(why) => types::Failure::Reject(why),
            })
        })
    }
}

/// The topic that the records of the call are of.
pub(crate) fn source_topic() -> String {
    source::topic()
}

/// What the module counts.
pub(crate) mod host_metrics {
    use super::metrics;

    pub(crate) fn add(name: &str, by: u64) {
        metrics::add(name, by);
    }

    pub(crate) fn set(name: &str, to: f64) {
        metrics::set(name, to);
    }
}

/// What the broker remembers for the module.
pub(crate) mod host_state {
    use super::state;

    pub(crate) fn get(key: &[u8]) -> Option<Vec<u8>> {
        state::get(key)
    }

    pub(crate) fn put(key: &[u8], value: &[u8]) {
        state::put(key, value);
    }

    pub(crate) fn delete(key: &[u8]) {
        state::delete(key);
    }

    pub(crate) fn scan(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        state::scan(prefix, after, limit).into_iter().map(|entry| (entry.key, entry.value)).collect()
    }
}

/// Writes one line to the broker's log.
pub(crate) fn write_log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => log::Level::Trace,
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message);
}

// The trap that follows a panic says only "unreachable".
fn report_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    let line = match info.location() {
        Some(place) => format!("{message}, at {}:{}", place.file(), place.line()),
        None => message.to_owned(),
    };
    log::write(log::Level::Panic, &line);
}
