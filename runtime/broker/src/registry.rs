//! Modules by name and by digest: those of the broker itself and those that users stored.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::{
    BindError, Bound, Engine, FaultKind, Limits, LoadError, LogSink, Manifest, Module, Setup,
};
use millstream_store::{ModuleBlob, Store};
use millstream_types::{Binding, ModuleInfo, ModuleName};

use crate::{
    Error, StockModule, Subscription,
    catalog::Catalog,
    rows::{ModuleRow, PinnedBinding},
};

/// Namespace of the modules that come with the broker.
const STOCK_NAMESPACE: &str = "std/";
/// How a module without a name is referred to.
const DIGEST_PREFIX: &str = "sha256:";

/// Modules by name and by digest.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    store: Store,
    catalog: Arc<Catalog>,
    stock: Vec<(ModuleName, ModuleRow, Bytes)>,
}

impl Registry {
    pub(crate) fn new(
        engine: Engine,
        limits: Limits,
        store: Store,
        catalog: Arc<Catalog>,
        stock: &[StockModule],
    ) -> Result<Self, Error> {
        let stock = stock.iter().map(|module| {
            let name = ModuleName::new(format!("{}@{}", module.name, module.version));
            let name = name.map_err(|error| Error::Internal(error.to_string()))?;
            let manifest = Manifest::find(module.wasm).ok().flatten();
            let row = ModuleRow {
                sha256: millstream_engine::digest(module.wasm),
                bytes: module.wasm.len() as u64,
                stored_ms: 0,
                manifest: manifest.and_then(|manifest| serde_json::to_string(&manifest).ok()),
            };
            Ok((name, row, Bytes::from_static(module.wasm)))
        });
        let stock = stock.collect::<Result<_, Error>>()?;
        Ok(Self { engine, limits, store, catalog, stock })
    }

    /// Checks that `wasm` is a module that can run here. Takes up to seconds.
    pub(crate) fn check(&self, wasm: &[u8]) -> Result<ModuleRow, Error> {
        let module =
            self.engine.load(wasm, &self.limits).map_err(|error| Error::ModuleRefused(error.to_string()))?;
        Ok(ModuleRow {
            sha256: module.digest(),
            bytes: wasm.len() as u64,
            stored_ms: 0,
            manifest: module.manifest().and_then(|manifest| serde_json::to_string(manifest).ok()),
        })
    }

    /// Refuses names that belong to the broker.
    pub(crate) fn check_name(name: &ModuleName) -> Result<(), Error> {
        if name.as_str().starts_with(STOCK_NAMESPACE) {
            Err(Error::ReservedName(name.clone()))
        } else {
            Ok(())
        }
    }

    /// Every named module, those of the broker first; without the schemas of their configurations, of which many would be
    /// more than one answer holds.
    pub(crate) fn list(&self) -> Vec<ModuleInfo> {
        let stock = self.stock.iter().map(|(name, row, _)| brief(name.as_str(), row));
        stock.chain(self.catalog.modules().iter().map(|(name, row)| brief(name.as_str(), row))).collect()
    }

    /// What `reference` means now.
    pub(crate) fn describe(&self, reference: &str) -> Result<ModuleInfo, Error> {
        let (name, row) = self.find(reference)?;
        Ok(info(&name, &row))
    }

    /// Fixes what `binding` refers to.
    pub(crate) fn pin(&self, binding: &Binding) -> Result<PinnedBinding, Error> {
        let (name, row) = self.find(&binding.module)?;
        Ok(PinnedBinding { module: name, sha256: row.sha256, config: binding.config.clone() })
    }

    /// Binds a subscription's modules, in order. Takes up to seconds when one is not compiled yet.
    pub(crate) fn bind(&self, subscription: &Subscription) -> Result<Vec<Bound>, Error> {
        subscription.pipeline().iter().map(|binding| self.bind_one(subscription, binding)).collect()
    }

    fn bind_one(&self, subscription: &Subscription, binding: &PinnedBinding) -> Result<Bound, Error> {
        let module = self.load(binding)?;
        let setup = Setup {
            topic: subscription.row().topic.to_string(),
            subscription: subscription.name().to_string(),
            config: binding.config.clone(),
        };
        let (name, reader) = (binding.module.clone(), subscription.name().clone());
        let log = LogSink::new(move |line| {
            tracing::info!(module = %name, subscription = %reader, level = line.level.as_str(), "{}", line.text);
        });
        module.bind(&setup, &self.limits, log).map_err(|error| {
            let cause = match error {
                BindError::Instantiate(fault) if fault.kind == FaultKind::Busy => {
                    return Error::InstancesBusy;
                }
                BindError::Refused(cause) => cause,
                other => other.to_string(),
            };
            Error::ConfigRefused { module: binding.module.clone(), cause }
        })
    }

    fn load(&self, binding: &PinnedBinding) -> Result<Module, Error> {
        let stock = self.stock.iter().find(|(_, row, _)| row.sha256 == binding.sha256);
        let wasm = match stock {
            Some((_, _, wasm)) => wasm.clone(),
            None => self
                .store
                .get(&ModuleBlob(binding.sha256))?
                .ok_or_else(|| Error::UnknownModule(binding.module.clone()))?,
        };
        self.engine.load(&wasm, &self.limits).map_err(|error| match error {
            LoadError::Instantiate(fault) if fault.kind == FaultKind::Busy => Error::InstancesBusy,
            error => Error::ModuleRefused(error.to_string()),
        })
    }

    fn find(&self, reference: &str) -> Result<(String, ModuleRow), Error> {
        let unknown = || Error::UnknownModule(reference.to_owned());
        if let Some(digest) = reference.strip_prefix(DIGEST_PREFIX) {
            let mut sha256 = [0; 32];
            hex::decode_to_slice(digest, &mut sha256).map_err(|_| unknown())?;
            let wasm = self.store.get(&ModuleBlob(sha256))?.ok_or_else(unknown)?;
            let manifest = Manifest::find(&wasm).ok().flatten();
            let row = ModuleRow {
                sha256,
                bytes: wasm.len() as u64,
                stored_ms: 0,
                manifest: manifest.and_then(|manifest| serde_json::to_string(&manifest).ok()),
            };
            return Ok((reference.to_owned(), row));
        }
        let means = |name: &ModuleName| name.as_str() == reference || name.name() == reference;
        if let Some((name, row, _)) = self.stock.iter().find(|(name, ..)| means(name)) {
            return Ok((name.to_string(), row.clone()));
        }
        // Without a version: the one pushed last.
        let named = self.catalog.modules().into_iter().filter(|(name, _)| means(name));
        let newest = named.max_by_key(|(_, row)| row.stored_ms);
        newest.map(|(name, row)| (name.to_string(), row)).ok_or_else(unknown)
    }
}

fn brief(name: &str, row: &ModuleRow) -> ModuleInfo {
    let manifest = row.manifest.as_deref().and_then(|text| serde_json::from_str::<Manifest>(text).ok());
    let manifest = manifest.map(|manifest| Manifest { config_schema: None, ..manifest });
    let manifest = manifest.and_then(|manifest| serde_json::to_string(&manifest).ok());
    ModuleInfo { manifest, ..info(name, row) }
}

fn info(name: &str, row: &ModuleRow) -> ModuleInfo {
    ModuleInfo {
        name: name.to_owned(),
        sha256: hex::encode(row.sha256),
        bytes: row.bytes,
        stored_ms: row.stored_ms,
        manifest: row.manifest.clone(),
    }
}
