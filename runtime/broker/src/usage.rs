//! What the modules of one subscription or ingest have used.

use millstream_engine::{Limits, Usage};
use millstream_types::ModuleUsage;

use crate::{bindings::PinnedBinding, limits::MODULES_COUNTED_MAX};

/// What each module has used, the one used last at the end. Of too many, those are forgotten that were not used for longest.
#[derive(Debug, Default)]
pub(crate) struct Used(Vec<ModuleUsage>);

impl Used {
    /// Counts what the modules of `pipeline` have `used` within `limits`, in order.
    pub(crate) fn count(
        &mut self,
        pipeline: &[PinnedBinding],
        limits: &Limits,
        used: impl Iterator<Item = Usage>,
    ) {
        for (binding, used) in pipeline.iter().zip(used).filter(|(_, used)| used.calls > 0) {
            let known = self.0.iter().position(|known| known.module == binding.module);
            let mut all = match known {
                Some(place) => self.0.remove(place),
                None => ModuleUsage { module: binding.module.clone(), ..ModuleUsage::default() },
            };
            all.add(&ModuleUsage {
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
            });
            if self.0.len() >= MODULES_COUNTED_MAX {
                self.0.remove(0);
            }
            self.0.push(all);
        }
    }

    /// What there is.
    pub(crate) fn all(&self) -> Vec<ModuleUsage> {
        self.0.clone()
    }

    /// What the module called `name` has used.
    pub(crate) fn by(&self, name: &str) -> Option<ModuleUsage> {
        self.0.iter().find(|used| used.module == name).cloned()
    }
}
