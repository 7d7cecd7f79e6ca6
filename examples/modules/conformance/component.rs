//! Building the examples as their READMEs say.

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream_engine::Limits;
use millstream_guest_build::{Guest, componentize};
use sha2::{Digest, Sha256};

/// Where a component is read from that is none of the examples.
const MODULE: &str = "MODULE";
const MIB: usize = 1 << 20;

/// A language that the order desk is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Rust with `millstream-sdk`.
    RustSdk,
    /// Rust with `wit-bindgen`.
    Rust,
    /// C with clang.
    C,
    /// JavaScript.
    JavaScript,
    /// Python.
    Python,
}

impl Language {
    /// The component, built unless that was done before.
    ///
    /// # Errors
    /// Why it cannot be built: which tool is missing, or what it says.
    pub fn component(self) -> Result<Vec<u8>, String> {
        match self {
            // A folder of their own beside the stock modules', whose standard library they share.
            Self::RustSdk | Self::Rust => {
                let guest = Guest::new(self.dir()).target_dir(target().join("guests"));
                guest.build().map_err(|error| error.to_string())
            }
            Self::C => componentize(&self.script()?).map_err(|error| error.to_string()),
            Self::JavaScript | Self::Python => self.script(),
        }
    }

    /// What an operator grants it: the default, or what its README says.
    pub fn limits(self) -> Limits {
        let default = Limits::default();
        match self {
            Self::RustSdk | Self::Rust | Self::C | Self::JavaScript => default,
            Self::Python => Limits { module_bytes: 24 * MIB, memory_bytes: 32 * MIB, ..default },
        }
    }

    /// Folder of the example.
    pub fn name(self) -> &'static str {
        match self {
            Self::RustSdk => "rust-sdk",
            Self::Rust => "rust",
            Self::C => "c",
            Self::JavaScript => "javascript",
            Self::Python => "python",
        }
    }

    fn dir(self) -> PathBuf {
        examples().join(self.name())
    }

    /// What `build.sh` makes. It takes seconds: what was made of the same sources with the same script is taken again.
    fn script(self) -> Result<Vec<u8>, String> {
        let dir = self.dir();
        let out = target().join("example-modules");
        let cannot = |what: &Path| {
            let what = what.display().to_string();
            move |error: std::io::Error| format!("{what}: {error}")
        };
        std::fs::create_dir_all(&out).map_err(cannot(&out))?;
        let name = self.name();
        let file = out.join(format!("{name}-{}.wasm", sources_digest(&dir).map_err(cannot(&dir))?));
        if !file.exists() {
            // Moved when it is whole: several tests may build it at once.
            let scratch = tempfile::tempdir_in(&out).map_err(cannot(&out))?;
            let made = scratch.path().join("module.wasm");
            let script = dir.join("build.sh");
            let built = Command::new("sh").arg(&script).arg(&made).output().map_err(cannot(&script))?;
            if !built.status.success() {
                let said = String::from_utf8_lossy(&built.stderr);
                return Err(format!("{} failed:\n{}", script.display(), said.trim_end()));
            }
            std::fs::rename(&made, &file).map_err(cannot(&made))?;
        }
        std::fs::read(&file).map_err(cannot(&file))
    }
}

/// The component that the environment variable `MODULE` names.
///
/// # Errors
/// When there is no such variable or no such file.
pub fn file() -> Result<Vec<u8>, String> {
    let path = std::env::var(MODULE).unwrap_or_default();
    if path.is_empty() {
        return Err(format!("say {MODULE}=FILE.wasm"));
    }
    // As seen from where it was said, which is the root of the source tree.
    let path = examples().join("../..").join(path);
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Where the compiled module called `name` is kept between runs.
pub fn cache(name: &str) -> PathBuf {
    target().join("example-modules/compiled").join(name)
}

/// Digest of the parts of `sdk/wit/module.wit` that the bindings of the C example were generated from, without comments.
///
/// # Errors
/// When the file cannot be read.
pub fn contract_of_c() -> std::io::Result<String> {
    let text = std::fs::read_to_string(examples().join("../../sdk/wit/module.wit"))?;
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim_end());
    let code = code.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let mut digest = Sha256::new();
    for part in ["interface types {", "interface log {", "world typed-module {"] {
        let from = code.find(part).unwrap_or(code.len());
        let end = code[from..].find("\n}").map_or(code.len(), |len| from + len);
        digest.update(&code[from..end]);
    }
    Ok(hex::encode(&digest.finalize()[..8]))
}

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> PathBuf {
    examples().join("../../target")
}

/// Digest of what a component is made of, in short: the files of its folder, the contract, and the versions of the tools.
fn sources_digest(dir: &Path) -> std::io::Result<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    files.push(examples().join("../../sdk/wit/module.wit"));
    files.push(examples().join("setup.sh"));
    let mut digest = Sha256::new();
    for file in files {
        let bytes = std::fs::read(&file)?;
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    Ok(hex::encode(&digest.finalize()[..8]))
}
