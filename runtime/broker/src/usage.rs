//! What the modules of one subscription or ingest have used.

use std::sync::{Mutex, PoisonError};

use millstream_engine::{Limits, Usage};
use millstream_types::ModuleUsage;

use crate::{bindings::PinnedBinding, limits::MODULES_COUNTED_MAX};

/// What each module has used since the broker started, the latest module last. Of so many that others took over from, the
/// first are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<Vec<ModuleUsage>>);

impl Used {
    /// Counts what the modules of `pipeline` have `used` within `limits`, in order.
    pub(crate) fn count(
        &self,
        pipeline: &[PinnedBinding],
        limits: &Limits,
        used: impl Iterator<Item = Usage>,
    ) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (binding, used) in pipeline.iter().zip(used).filter(|(_, used)| used.calls > 0) {
            let place = match known.iter().position(|known| known.module == binding.module) {
                Some(place) => place,
                None => {
                    if known.len() >= MODULES_COUNTED_MAX {
                        known.remove(0);
                    }
                    known.push(ModuleUsage { module: binding.module.clone(), ..ModuleUsage::default() });
                    known.len() - 1
                }
            };
            let used = ModuleUsage {
                module: String::new(),
                calls: used.calls,
                faults: used.faults,
                records: used.records,
                module_ns: used.guest_ns,
                longest_ns: used.longest_ns,
                budget_ms: limits.call_ms,
                memory_bytes: used.memory_bytes,
                memory_budget_bytes: limits.memory_bytes as u64,
                metrics: used.metrics,
            };
            if let Some(known) = known.get_mut(place) {
                known.add(&used);
            }
        }
    }

    /// What there is.
    pub(crate) fn get(&self) -> Vec<ModuleUsage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
