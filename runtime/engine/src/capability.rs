//! What a module may use of the broker: the interfaces that it imports, each granted by name.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::{LOG, METRICS, SOURCE, STATE};
use crate::sections;

/// An interface of the broker that a module may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Lines to the broker's log.
    Log,
    /// Counters and gauges.
    Metrics,
    /// Whose the records are.
    Source,
    /// What a processor remembers.
    State,
}

impl Capability {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Log, Self::Metrics, Self::Source, Self::State];

    /// As manifests and operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::Source => "source",
            Self::State => "state",
        }
    }

    /// Whether it is there for the modules of processors alone.
    pub(crate) fn is_for_processors(self) -> bool {
        matches!(self, Self::Source | Self::State)
    }

    /// That of an interface of the contract.
    pub(crate) fn of(interface: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.interface() == interface)
    }

    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Log => LOG,
            Self::Metrics => METRICS,
            Self::Source => SOURCE,
            Self::State => STATE,
        }
    }

    /// Those that the component `wasm` imports. Of what is no component, none.
    pub fn imported(wasm: &[u8]) -> BTreeSet<Self> {
        sections::component_imports(wasm).filter_map(Self::of).collect()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
