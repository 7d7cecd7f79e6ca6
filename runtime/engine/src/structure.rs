//! What a component is made of, counted before anything is made of it: types, imports, instances, functions. What compiling
//! costs, and what is kept of a module, is bounded by these counts and its size.

use wasmparser::{ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration, Parser, Payload};

use crate::LoadError;
use crate::limits::structure::{
    ALIASES_MAX, CANONICAL_MAX, CORE_EXPORTS_MAX, CORE_IMPORTS_MAX, CORE_PARTS_MAX, CORE_TYPES_MAX,
    DEPTH_MAX, EXPORTS_MAX, FUNCTION_BYTES_MAX, FUNCTIONS_MAX, IMPORTS_MAX, INSTANCES_MAX, LOCALS_MAX,
    NESTED_MAX, TYPES_MAX,
};

const GENERATED: &str = "no compiler makes so many; build the module anew, with `millstream module build`";
const SPLIT: &str = "divide the function, or build the module with --release";
const SMALLER: &str = "leave out what the module does not use, or build it with --release";

/// Counts what `wasm` is made of. Reads it once, front to back, and keeps nothing.
///
/// # Errors
/// [`LoadError::Structure`] naming what there is too much of, [`LoadError::Invalid`] where it cannot be read.
pub(crate) fn check(wasm: &[u8]) -> Result<(), LoadError> {
    let mut counts = Counts::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| invalid(&error))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                counts.nested.add(1)?;
                depth += 1;
                at_most("modules and components are nested to a depth of", depth, DEPTH_MAX, GENERATED)?;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            payload => counts.add(&payload)?,
        }
    }
    Ok(())
}

/// One kind of thing.
#[derive(Debug)]
struct Count {
    what: &'static str,
    found: usize,
    max: usize,
    remedy: &'static str,
}

impl Count {
    const fn new(what: &'static str, max: usize, remedy: &'static str) -> Self {
        Self { what, found: 0, max, remedy }
    }

    fn add(&mut self, count: usize) -> Result<(), LoadError> {
        self.found = self.found.saturating_add(count);
        if self.found <= self.max {
            return Ok(());
        }
        let Self { what, found, max, remedy } = *self;
        at_most(&format!("the number of its {what} is"), found, max, remedy)
    }
}

#[derive(Debug)]
struct Counts {
    imports: Count,
    exports: Count,
    types: Count,
    instances: Count,
    aliases: Count,
    canonical: Count,
    nested: Count,
    core_types: Count,
    core_imports: Count,
    core_exports: Count,
    core_parts: Count,
    functions: Count,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            imports: Count::new("imports", IMPORTS_MAX, GENERATED),
            exports: Count::new("exports", EXPORTS_MAX, GENERATED),
            types: Count::new("component types", TYPES_MAX, GENERATED),
            instances: Count::new("instances", INSTANCES_MAX, GENERATED),
            aliases: Count::new("aliases", ALIASES_MAX, GENERATED),
            canonical: Count::new("canonical functions", CANONICAL_MAX, GENERATED),
            nested: Count::new("nested modules and components", NESTED_MAX, GENERATED),
            core_types: Count::new("core types", CORE_TYPES_MAX, SMALLER),
            core_imports: Count::new("core imports", CORE_IMPORTS_MAX, SMALLER),
            core_exports: Count::new("core exports", CORE_EXPORTS_MAX, SMALLER),
            core_parts: Count::new("tables, memories, globals and segments", CORE_PARTS_MAX, SMALLER),
            functions: Count::new("functions", FUNCTIONS_MAX, SMALLER),
        }
    }
}

impl Counts {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), LoadError> {
        let len = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        match payload {
            Payload::ComponentImportSection(section) => self.imports.add(len(section.count())),
            Payload::ComponentExportSection(section) => self.exports.add(len(section.count())),
            Payload::ComponentTypeSection(section) => {
                // Told at once, where the section is only said to be long.
                let limit = TYPES_MAX.saturating_sub(self.types.found);
                if len(section.count()) > limit {
                    return self.types.add(len(section.count()));
                }
                for ty in section.clone() {
                    self.types.add(types_in(&ty.map_err(|error| invalid(&error))?))?;
                }
                Ok(())
            }
            Payload::CoreTypeSection(section) => self.types.add(len(section.count())),
            Payload::ComponentInstanceSection(section) => self.instances.add(len(section.count())),
            Payload::InstanceSection(section) => self.instances.add(len(section.count())),
            Payload::ComponentAliasSection(section) => self.aliases.add(len(section.count())),
            Payload::ComponentCanonicalSection(section) => self.canonical.add(len(section.count())),
            Payload::TypeSection(section) => self.core_types.add(len(section.count())),
            Payload::ImportSection(section) => self.core_imports.add(len(section.count())),
            Payload::ExportSection(section) => self.core_exports.add(len(section.count())),
            Payload::TableSection(section) => self.core_parts.add(len(section.count())),
            Payload::MemorySection(section) => self.core_parts.add(len(section.count())),
            Payload::GlobalSection(section) => self.core_parts.add(len(section.count())),
            Payload::ElementSection(section) => self.core_parts.add(len(section.count())),
            Payload::DataSection(section) => self.core_parts.add(len(section.count())),
            Payload::FunctionSection(section) => self.functions.add(len(section.count())),
            Payload::CodeSectionEntry(body) => {
                let bytes = body.as_bytes().len();
                at_most("the size in bytes of one of its functions is", bytes, FUNCTION_BYTES_MAX, SPLIT)?;
                let locals = body.get_locals_reader().map_err(|error| invalid(&error))?;
                let mut found = 0_usize;
                for local in locals {
                    let (count, _) = local.map_err(|error| invalid(&error))?;
                    found = found.saturating_add(len(count));
                }
                at_most("the number of local variables of one of its functions is", found, LOCALS_MAX, SPLIT)
            }
            _ => Ok(()),
        }
    }
}

/// A type, and those declared within it.
fn types_in(ty: &ComponentType<'_>) -> usize {
    match ty {
        ComponentType::Component(declared) => {
            1 + declared
                .iter()
                .map(|one| match one {
                    ComponentTypeDeclaration::Type(ty) => 1 + types_in(ty),
                    _ => 1,
                })
                .sum::<usize>()
        }
        ComponentType::Instance(declared) => {
            1 + declared
                .iter()
                .map(|one| match one {
                    InstanceTypeDeclaration::Type(ty) => 1 + types_in(ty),
                    _ => 1,
                })
                .sum::<usize>()
        }
        _ => 1,
    }
}

fn at_most(what: &str, found: usize, max: usize, remedy: &'static str) -> Result<(), LoadError> {
    if found <= max {
        return Ok(());
    }
    Err(LoadError::Structure { what: what.to_owned(), found, max, remedy })
}

fn invalid(error: &wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Invalid(error.to_string())
}
