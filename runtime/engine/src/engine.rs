//! The engine: compiles components once, keeps them, and gives out modules.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::cache::Cache;
use crate::contract::{CONFIGURE, Form, PACKAGE};
use crate::host::{self, Host};
use crate::instance::Instance;
use crate::limits::Limits;
use crate::log::{Log, LogSink};
use crate::manifest::Manifest;
use crate::module::{Loaded, Module, ModuleDigest, digest};
use crate::schema::ConfigSchema;
use crate::sections::{self, Format};
use crate::settings::{self, Settings, Target};
use crate::ticker::Ticker;
use crate::{Capability, Compiler, EngineError, LoadError, compiled, structure};

/// Compiles and runs modules. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) ticker: Ticker,
    pub(crate) counts_fuel: bool,
    linker: Linker<Host>,
    cache: Option<Cache>,
    compiler: Option<Compiler>,
    target: Target,
    modules: Mutex<HashMap<ModuleDigest, Weak<Loaded>>>,
    /// Compiling takes all cores: one at a time.
    compiling: Mutex<()>,
}

impl Engine {
    /// Sets the engine up.
    ///
    /// # Errors
    /// [`EngineError`] when the host does not let it, or the cache directory cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        let with =
            |target| wasmtime::Engine::new(&settings::running(settings, target)).map(|made| (made, target));
        let made = with(Target::roomy(settings)).or_else(|error| {
            tracing::warn!(%error, "modules run with less address space, and slower");
            with(Target::cramped(settings))
        });
        let (wasmtime, target) = made.map_err(|error| EngineError::Runtime(format!("{error:#}")))?;
        let mut linker = Linker::new(&wasmtime);
        host::link(&mut linker).map_err(|error| EngineError::Runtime(format!("{error:#}")))?;
        let cache = settings.cache_dir.as_deref().map(|dir| Cache::open(dir, &wasmtime)).transpose()?;
        let ticker = Ticker::start(&wasmtime).map_err(EngineError::Thread)?;
        Ok(Self {
            shared: Arc::new(Shared {
                wasmtime,
                ticker,
                counts_fuel: settings.fuel,
                linker,
                cache,
                compiler: settings.compiler.clone(),
                target,
                modules: Mutex::default(),
                compiling: Mutex::new(()),
            }),
        })
    }

    /// Makes a module of the component `wasm`: compiles it unless that was done before, and tries it out within
    /// `limits`. Takes up to seconds: not for a thread that serves others.
    ///
    /// # Errors
    /// [`LoadError`] naming what is wrong with it.
    pub fn load(&self, wasm: &[u8], limits: &Limits) -> Result<Module, LoadError> {
        if wasm.len() > limits.module_bytes {
            return Err(LoadError::TooLarge { found: wasm.len(), max: limits.module_bytes });
        }
        match sections::format(wasm) {
            Format::Component => {}
            Format::CoreModule => return Err(LoadError::CoreModule),
            Format::Other => return Err(LoadError::NotWasm(wasm.iter().take(8).copied().collect())),
        }
        let digest = digest(wasm);
        let loaded = match self.known(&digest) {
            Some(loaded) => loaded,
            None => self.prepare(digest, wasm, limits)?,
        };
        if let Some(capability) = loaded.capabilities.difference(&limits.granted).next() {
            return Err(LoadError::NotGranted(*capability));
        }
        let module = Module { engine: Arc::clone(&self.shared), loaded };
        // Tried out each time, since the limits may be others.
        let log = Log::new(LogSink::none(), limits);
        Instance::new(&self.shared, &module.loaded.pre, module.loaded.form, log, limits)
            .map_err(|(fault, _)| LoadError::Instantiate(fault))?;
        Ok(module)
    }

    /// The module of this digest, if it is in use.
    pub fn in_use(&self, digest: &ModuleDigest) -> Option<Module> {
        Some(Module { loaded: self.known(digest)?, engine: Arc::clone(&self.shared) })
    }

    fn known(&self, digest: &ModuleDigest) -> Option<Arc<Loaded>> {
        lock(&self.shared.modules).get(digest).and_then(Weak::upgrade)
    }

    /// Has the component compiled, unless it is in the cache, and checks it against the contract.
    fn prepare(&self, digest: ModuleDigest, wasm: &[u8], limits: &Limits) -> Result<Arc<Loaded>, LoadError> {
        structure::check(wasm)?;
        let manifest = Manifest::find(wasm)?;
        let schema = manifest.as_ref().and_then(|manifest| manifest.config_schema.as_ref());
        let schema = schema.map(ConfigSchema::new).transpose().map_err(LoadError::ConfigSchema)?;
        // What is in the cache does not wait for what somebody else has compiled.
        let component = match self.cached(&digest) {
            Some(component) => component,
            None => {
                let _one_at_a_time = lock(&self.shared.compiling);
                if let Some(loaded) = self.known(&digest) {
                    return Ok(loaded);
                }
                match self.cached(&digest) {
                    Some(component) => component,
                    None => self.compile(&digest, wasm, limits)?,
                }
            }
        };
        self.check_imports(&component)?;
        let capabilities = declared(Capability::imported(wasm), manifest.as_ref())?;
        let form = self.check_exports(&component)?;
        let pre = self.link(&component, form)?;
        let mut modules = lock(&self.shared.modules);
        if let Some(loaded) = modules.get(&digest).and_then(Weak::upgrade) {
            return Ok(loaded);
        }
        let wasm_bytes = wasm.len();
        let loaded = Arc::new(Loaded { digest, manifest, schema, wasm_bytes, capabilities, form, pre });
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(digest, Arc::downgrade(&loaded));
        Ok(loaded)
    }

    fn cached(&self, digest: &ModuleDigest) -> Option<Component> {
        self.shared.cache.as_ref().and_then(|cache| cache.read(digest, &self.shared.wasmtime))
    }

    fn compile(&self, digest: &ModuleDigest, wasm: &[u8], limits: &Limits) -> Result<Component, LoadError> {
        let engine = &self.shared.wasmtime;
        let compiled = match &self.shared.compiler {
            Some(compiler) => compiler.compile(wasm, self.shared.target, limits.compile_ms)?,
            None => {
                engine.precompile_component(wasm).map_err(|error| LoadError::Invalid(format!("{error:#}")))?
            }
        };
        // Some of what can be wrong with it shows only here: memories and tables for which there is no room.
        let component =
            compiled::load(engine, &compiled).map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
        if let Some(cache) = &self.shared.cache {
            cache.write(digest, &compiled);
        }
        Ok(component)
    }

    /// Refuses imports from outside the contract, by name. Instances that only carry types need no one to offer them.
    fn check_imports(&self, component: &Component) -> Result<(), LoadError> {
        let engine = &self.shared.wasmtime;
        for (name, import) in component.component_type().imports(engine) {
            let functions = match &import.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let functions: Vec<_> = instance
                        .exports(engine)
                        .filter(|(_, item)| !matches!(item.ty, ComponentItem::Type(_)))
                        .map(|(name, _)| name.to_owned())
                        .take(8)
                        .collect();
                    if Capability::of(name).is_some() || (functions.is_empty() && name.starts_with(PACKAGE)) {
                        continue;
                    }
                    functions
                }
                _ => Vec::new(),
            };
            return Err(LoadError::UnknownImport { import: name.to_owned(), functions });
        }
        Ok(())
    }

    /// Which of the two forms the exports are: `configure`, and one function that judges.
    fn check_exports(&self, component: &Component) -> Result<Form, LoadError> {
        let exports = component.component_type();
        let has = |name| {
            let export = exports.get_export(&self.shared.wasmtime, name);
            export.is_some_and(|item| matches!(item.ty, ComponentItem::ComponentFunc(_)))
        };
        if !has(CONFIGURE) {
            return Err(LoadError::MissingExport(CONFIGURE));
        }
        match Form::ALL.map(|form| has(form.export())) {
            [true, false] => Ok(Form::Batch),
            [false, true] => Ok(Form::Records),
            [false, false] => Err(LoadError::NoForm),
            [true, true] => Err(LoadError::BothForms),
        }
    }

    fn link(&self, component: &Component, form: Form) -> Result<InstancePre<Host>, LoadError> {
        let pre = self.shared.linker.instantiate_pre(component);
        let pre = pre.map_err(|error| LoadError::Link(format!("{error:#}")))?;
        Instance::check_types(component, form)?;
        Ok(pre)
    }
}

/// Refuses what is imported and not named in the manifest, where that names what is used: whoever reads it is not to be misled.
fn declared(
    imported: BTreeSet<Capability>,
    manifest: Option<&Manifest>,
) -> Result<BTreeSet<Capability>, LoadError> {
    let named = |capability: &&Capability| {
        let names = manifest.and_then(|manifest| manifest.capabilities.as_ref());
        names.is_none_or(|names| names.iter().any(|name| name == capability.name()))
    };
    match imported.iter().find(|capability| !named(capability)) {
        Some(capability) => Err(LoadError::Undeclared(*capability)),
        None => Ok(imported),
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// What is behind these locks is whole at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
