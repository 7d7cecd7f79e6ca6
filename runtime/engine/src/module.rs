//! A module: a compiled component that may be bound to any number of places.

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::component::InstancePre;

use crate::contract::Form;
use crate::engine::Shared;
use crate::host::Host;
use crate::limits::Limits;
use crate::log::LogSink;
use crate::manifest::Manifest;
use crate::schema::ConfigSchema;
use crate::{BindError, Bound, Capability, Setup};

/// SHA-256 of a component.
pub type ModuleDigest = [u8; 32];

/// The digest that names the component `wasm`.
pub fn digest(wasm: &[u8]) -> ModuleDigest {
    Sha256::digest(wasm).into()
}

/// A compiled component. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    pub(crate) engine: Arc<Shared>,
    pub(crate) loaded: Arc<Loaded>,
}

/// What all modules of one digest share.
pub(crate) struct Loaded {
    pub(crate) digest: ModuleDigest,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) schema: Option<ConfigSchema>,
    pub(crate) wasm_bytes: usize,
    /// What it imports of the contract.
    pub(crate) capabilities: BTreeSet<Capability>,
    pub(crate) form: Form,
    pub(crate) pre: InstancePre<Host>,
}

impl Module {
    /// SHA-256 of the component.
    pub fn digest(&self) -> ModuleDigest {
        self.loaded.digest
    }

    /// What the component says of itself, if it does.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.loaded.manifest.as_ref()
    }

    /// Bytes of the component.
    pub fn wasm_bytes(&self) -> usize {
        self.loaded.wasm_bytes
    }

    /// Whether it asks for a state, so that only a processor may bind it.
    pub fn needs_state(&self) -> bool {
        self.loaded.capabilities.iter().any(|capability| capability.is_for_processors())
    }

    /// The interfaces that it uses.
    pub fn capabilities(&self) -> &BTreeSet<Capability> {
        &self.loaded.capabilities
    }

    /// Which of the contract's two functions it exports.
    pub fn form(&self) -> Form {
        self.loaded.form
    }

    /// Makes an instance for `setup` and configures it. Its log lines go to `log`. Takes up to
    /// [`Limits::configure_ms`] of CPU time: not for a thread that serves others.
    ///
    /// # Errors
    /// [`BindError`], with the module's own words when it refuses its configuration.
    pub fn bind(&self, setup: &Setup, limits: &Limits, log: LogSink) -> Result<Bound, BindError> {
        Bound::new(self.clone(), setup.clone(), limits.clone(), log)
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Module").field(&hex::encode(self.loaded.digest)).finish()
    }
}
