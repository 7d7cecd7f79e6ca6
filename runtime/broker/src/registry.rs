//! Modules by name and by digest: those of the broker itself and those that users stored.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::{
    BindError, Bound, Capability, Engine, FaultKind, Form, Limits, LoadError, LogSink, Manifest, Module,
    PublicKey, Setup, State, Trust, TrustError,
};
use millstream_store::{ModuleBlob, Store};
use millstream_types::{Binding, ModuleInfo, ModuleName, ModuleSigner, SubscriptionName};

use crate::{
    Error, StockModule, Subscription, bindings::PinnedBinding, catalog::Catalog, limits::BINDERS_LISTED_MAX,
    processors, rows::ModuleRow, tail::Tail,
};

/// Namespace of the modules that come with the broker.
pub(crate) const STOCK_NAMESPACE: &str = "std/";
/// How a module without a name is referred to.
const DIGEST_PREFIX: &str = "sha256:";

/// Modules by name and by digest.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    trust: Trust,
    store: Store,
    catalog: Arc<Catalog>,
    tail: Arc<Tail>,
    stock: Vec<(ModuleName, ModuleRow, Bytes)>,
}

/// Where modules are bound.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// As modules are told, a name or a pattern.
    pub(crate) topic: String,
    /// As modules are told; empty on a topic's ingest.
    pub(crate) subscription: String,
    /// Under which their lines are told.
    pub(crate) reader: SubscriptionName,
    /// Of a processor.
    pub(crate) state: Option<State>,
}

impl Registry {
    pub(crate) fn new(
        engine: Engine,
        limits: Limits,
        trust: Trust,
        store: Store,
        catalog: Arc<Catalog>,
        tail: Arc<Tail>,
        stock: &[StockModule],
    ) -> Result<Self, Error> {
        let stock = stock.iter().map(|module| {
            let name = ModuleName::new(format!("{}@{}", module.name, module.version));
            let name = name.map_err(|error| Error::Internal(error.to_string()))?;
            Ok((name, row_of(module.wasm, Some(Form::Batch), Vec::new()), Bytes::from_static(module.wasm)))
        });
        let stock = stock.collect::<Result<_, Error>>()?;
        Ok(Self { engine, limits, trust, store, catalog, tail, stock })
    }

    /// Checks that `wasm` is a module that can run here. Takes up to seconds.
    pub(crate) fn check(&self, wasm: &[u8]) -> Result<ModuleRow, Error> {
        let module = self.engine.load(wasm, &self.limits);
        let module = module.map_err(refused)?;
        let signers = self.trust.check(wasm).map_err(|error| match error {
            TrustError::Signature(error) => Error::ModuleRefused(error.to_string()),
            cause => Error::ModuleUntrusted { module: None, cause },
        })?;
        Ok(row_of(wasm, Some(module.form()), signers.iter().map(PublicKey::to_bytes).collect()))
    }

    /// Refuses names that belong to the broker.
    pub(crate) fn check_name(name: &ModuleName) -> Result<(), Error> {
        if name.as_str().starts_with(STOCK_NAMESPACE) {
            Err(Error::ReservedName(name.clone()))
        } else {
            Ok(())
        }
    }

    /// Whether any of these is kept in the store, and could be deleted there.
    pub(crate) fn keeps_any(&self, pipeline: &[PinnedBinding]) -> bool {
        let stock = |binding: &PinnedBinding| {
            let unnamed =
                binding.module.starts_with(STOCK_NAMESPACE) || binding.module.starts_with(DIGEST_PREFIX);
            unnamed && self.stock.iter().any(|(_, row, _)| row.sha256 == binding.sha256)
        };
        !pipeline.iter().all(stock)
    }

    /// Every named module, those of the broker first; without the schemas of their configurations, of which many would be
    /// more than one answer holds.
    pub(crate) fn list(&self) -> Vec<ModuleInfo> {
        let bound = self.catalog.bound();
        let info = |name: &ModuleName, row: &ModuleRow| ModuleInfo {
            bound: bound.get(name.as_str()).copied().unwrap_or_default(),
            manifest: without_schema(row),
            ..info(name.as_str(), row, &self.trust)
        };
        let stock = self.stock.iter().map(|(name, row, _)| info(name, row));
        stock.chain(self.catalog.modules().iter().map(|(name, row)| info(name, row))).collect()
    }

    /// What `reference` means now. Reads the store where that is a digest without a name.
    pub(crate) fn describe(&self, reference: &str) -> Result<ModuleInfo, Error> {
        let (name, row) = self.find(reference)?;
        Ok(self.describe_found(&name, &row))
    }

    fn describe_found(&self, name: &str, row: &ModuleRow) -> ModuleInfo {
        let by_digest = name.starts_with(DIGEST_PREFIX);
        let wanted = |binding: &PinnedBinding| match by_digest {
            true => binding.sha256 == row.sha256,
            false => binding.module == name,
        };
        let (mut bound_by, mut ingest_of) = self.catalog.binders(wanted);
        let bound = (bound_by.len() + ingest_of.len()) as u64;
        bound_by.truncate(BINDERS_LISTED_MAX);
        ingest_of.truncate(BINDERS_LISTED_MAX);
        let usage = self.catalog.usage(name).map(Box::new);
        ModuleInfo { bound, bound_by, ingest_of, usage, ..info(name, row, &self.trust) }
    }

    /// What `reference` means now, and its bytes. Reads the store.
    pub(crate) fn get(&self, reference: &str) -> Result<(ModuleInfo, Bytes), Error> {
        let (name, row) = self.find(reference)?;
        let info = self.describe_found(&name, &row);
        Ok((info, self.bytes(&row.sha256)?.ok_or(Error::UnknownModule(name))?))
    }

    /// The one stored module that `reference` means, to be deleted.
    pub(crate) fn one_version(&self, reference: &str) -> Result<ModuleName, Error> {
        if reference.starts_with(DIGEST_PREFIX) {
            return Err(Error::DeleteByDigest(reference.to_owned()));
        }
        if let Some((name, ..)) = self.stock.iter().find(|(name, ..)| means(reference, name)) {
            return Err(Error::StockModule(name.clone()));
        }
        let named = self.catalog.modules().into_iter().map(|(name, _)| name);
        let mut versions: Vec<_> = named.filter(|name| means(reference, name)).collect();
        match (versions.pop(), versions.is_empty()) {
            (None, _) => Err(Error::UnknownModule(reference.to_owned())),
            (Some(one), true) => Ok(one),
            (Some(last), false) => {
                versions.push(last);
                Err(Error::AmbiguousModule { name: reference.to_owned(), versions })
            }
        }
    }

    /// Fixes what `binding` refers to.
    pub(crate) fn pin(&self, binding: &Binding) -> Result<PinnedBinding, Error> {
        let (name, row) = self.find(&binding.module)?;
        Ok(PinnedBinding { module: name, sha256: row.sha256, config: binding.config.clone() })
    }

    /// Binds the modules of `pipeline` for a subscription, in order. Takes up to seconds when one is not compiled yet.
    pub(crate) fn bind(
        &self,
        subscription: &Subscription,
        pipeline: &[PinnedBinding],
    ) -> Result<Vec<Bound>, Error> {
        let state = subscription.processing().map(|it| it.state(&self.store, subscription.id()));
        let seat = Seat {
            topic: subscription.topic().to_string(),
            subscription: subscription.name().to_string(),
            reader: subscription.name().clone(),
            state,
        };
        let bound = self.bind_at(&seat, pipeline)?;
        if seat.state.is_some() {
            processors::check(subscription, &bound)?;
        }
        Ok(bound)
    }

    /// The same for any place.
    pub(crate) fn bind_at(&self, seat: &Seat, pipeline: &[PinnedBinding]) -> Result<Vec<Bound>, Error> {
        pipeline.iter().map(|binding| self.bind_one(seat, binding)).collect()
    }

    fn bind_one(&self, seat: &Seat, binding: &PinnedBinding) -> Result<Bound, Error> {
        let module = self.load(binding)?;
        let setup = Setup {
            topic: seat.topic.clone(),
            subscription: seat.subscription.clone(),
            config: binding.config.clone(),
            state: seat.state.clone(),
        };
        let (name, reader) = (binding.module.clone(), seat.reader.clone());
        let tail = Arc::clone(&self.tail);
        let log = LogSink::new(move |line| tail.write(&reader, &name, line.level, line.text, line.left_out));
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
        // Stock modules are the broker's own.
        let stock = self.stock.iter().any(|(_, row, _)| row.sha256 == binding.sha256);
        let needs_trust = self.trust.required && !stock;
        if !needs_trust && let Some(module) = self.engine.in_use(&binding.sha256) {
            return Ok(module);
        }
        let wasm = self.bytes(&binding.sha256)?;
        let wasm = wasm.ok_or_else(|| Error::UnknownModule(binding.module.clone()))?;
        // Stored before the setting was, perhaps, or its signer's key was removed since.
        if needs_trust {
            let untrusted = |cause| Error::ModuleUntrusted { module: Some(binding.module.clone()), cause };
            self.trust.check(&wasm).map_err(untrusted)?;
        }
        self.engine.load(&wasm, &self.limits).map_err(refused)
    }

    fn bytes(&self, sha256: &[u8; 32]) -> Result<Option<Bytes>, Error> {
        let stock = self.stock.iter().find(|(_, row, _)| row.sha256 == *sha256);
        match stock {
            Some((_, _, wasm)) => Ok(Some(wasm.clone())),
            None => Ok(self.store.get(&ModuleBlob(*sha256))?),
        }
    }

    fn find(&self, reference: &str) -> Result<(String, ModuleRow), Error> {
        let unknown = || Error::UnknownModule(reference.to_owned());
        if let Some(digest) = reference.strip_prefix(DIGEST_PREFIX) {
            let mut sha256 = [0; 32];
            hex::decode_to_slice(digest, &mut sha256).map_err(|_| unknown())?;
            let stock = self.stock.iter().map(|(_, row, _)| row).find(|row| row.sha256 == sha256);
            let row = match stock.cloned().or_else(|| self.catalog.module_of(&sha256)) {
                Some(row) => row,
                None => {
                    let wasm = self.bytes(&sha256)?.ok_or_else(unknown)?;
                    let signers = millstream_engine::signature::signers(&wasm).unwrap_or_default();
                    row_of(
                        &wasm,
                        self.engine.in_use(&sha256).map(|module| module.form()),
                        signers.iter().map(PublicKey::to_bytes).collect(),
                    )
                }
            };
            return Ok((reference.to_owned(), row));
        }
        if let Some((name, row, _)) = self.stock.iter().find(|(name, ..)| means(reference, name)) {
            return Ok((name.to_string(), row.clone()));
        }
        // Without a version: the one pushed last.
        let named = self.catalog.modules().into_iter().filter(|(name, _)| means(reference, name));
        let newest = named.max_by_key(|(_, row)| row.stored_ms);
        newest.map(|(name, row)| (name.to_string(), row)).ok_or_else(unknown)
    }
}

fn refused(error: LoadError) -> Error {
    match error {
        LoadError::Instantiate(fault) if fault.kind == FaultKind::Busy => Error::InstancesBusy,
        LoadError::CompilerUnavailable(cause) => Error::CompilerUnavailable(cause),
        error => Error::ModuleRefused(error.to_string()),
    }
}

/// Whether `reference` is the name, or the name without its version.
fn means(reference: &str, name: &ModuleName) -> bool {
    name.as_str() == reference || name.name() == reference
}

/// What is kept of a module that was checked.
fn row_of(wasm: &[u8], form: Option<Form>, signers: Vec<[u8; 32]>) -> ModuleRow {
    let manifest = Manifest::find(wasm).ok().flatten();
    ModuleRow {
        sha256: millstream_engine::digest(wasm),
        bytes: wasm.len() as u64,
        stored_ms: 0,
        manifest: manifest.and_then(|manifest| serde_json::to_string(&manifest).ok()),
        typed: form.map(|form| form == Form::Records),
        capabilities: Capability::imported(wasm).iter().map(Capability::to_string).collect(),
        signers,
        deleted_ms: None,
    }
}

fn form(typed: bool) -> Form {
    if typed { Form::Records } else { Form::Batch }
}

fn without_schema(row: &ModuleRow) -> Option<String> {
    let manifest = row.manifest.as_deref().and_then(|text| serde_json::from_str::<Manifest>(text).ok());
    let manifest = manifest.map(|manifest| Manifest { config_schema: None, ..manifest });
    manifest.and_then(|manifest| serde_json::to_string(&manifest).ok())
}

fn info(name: &str, row: &ModuleRow, trust: &Trust) -> ModuleInfo {
    let signers = row.signers.iter().map(|key| {
        let key = PublicKey::from_bytes(*key);
        ModuleSigner { key: key.id(), trusted: trust.trusts(&key) }
    });
    ModuleInfo {
        name: name.to_owned(),
        sha256: hex::encode(row.sha256),
        bytes: row.bytes,
        stored_ms: row.stored_ms,
        manifest: row.manifest.clone(),
        judges_with: row.typed.map(|typed| form(typed).export().to_owned()),
        capabilities: row.capabilities.clone(),
        signers: signers.collect(),
        bound: 0,
        bound_by: Vec::new(),
        usage: None,
        ingest_of: Vec::new(),
    }
}
