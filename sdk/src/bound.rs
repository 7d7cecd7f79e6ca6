//! A configured module and its way from batch to verdicts: the same in the guest and in tests on the host.

use millstream_types::{BatchView, Check, Compression, VerdictWriter};

use crate::{CONTRACT, Failure, Module, ModuleConfig, Record, Setup, Spec};

#[cfg(target_arch = "wasm32")]
use crate::guest::source_topic;
#[cfg(not(target_arch = "wasm32"))]
use crate::test::source_topic;

/// A module with its configuration.
pub(crate) struct Bound<M: Module> {
    config: M::Config,
}

impl<M: Module> Bound<M> {
    /// Reads the configuration and says what the module will do.
    pub(crate) fn new(setup: &Setup) -> Result<(Self, Spec), String> {
        if setup.contract != CONTRACT {
            return Err(format!(
                "this module speaks contract {CONTRACT}, the broker {}: rebuild it with the SDK of the broker's version",
                setup.contract
            ));
        }
        let config = M::Config::from_json(&setup.config)?;
        let spec = Spec {
            reads_payload: M::reads_payload(&config),
            verdicts: M::VERDICTS,
            topics: M::topics(&config),
        };
        crate::metrics::forget();
        Ok((Self { config }, spec))
    }

    /// Judges every record of `batch`.
    pub(crate) fn process(&self, batch: &[u8]) -> Result<Vec<u8>, Failure> {
        let batch =
            BatchView::new(batch, Check::Header).map_err(|error| Failure::Reject(error.to_string()))?;
        if batch.compression() != Compression::None && !batch.payloads_omitted() {
            return Err(Failure::Reject("the payloads of the batch are compressed".into()));
        }
        let mut verdicts = VerdictWriter::with_capacity(batch.len());
        let payload_given = !batch.payloads_omitted();
        let topic = if M::HAS_STATE { source_topic() } else { String::new() };
        for raw in batch.raw_records() {
            M::judge(&Record::new(raw, payload_given, &topic), &self.config, &mut verdicts);
        }
        crate::metrics::end_batch();
        Ok(verdicts.finish())
    }
}
