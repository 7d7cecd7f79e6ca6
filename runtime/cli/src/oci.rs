//! Modules as OCI artifacts: an image layout (OCI image specification 1.1) in a folder or a tar archive, with one manifest
//! for each module in the form of the CNCF's guidance "Wasm OCI Artifact": a config of
//! `application/vnd.wasm.config.v0+json` and one layer of `application/wasm`, which is the component as it is.

mod archive;
mod config;
mod document;
mod files;
mod layout;

use std::{io, path::PathBuf};

pub(crate) use layout::{read, write};

use crate::failure::Failure;

/// A module on its way into a layout.
#[derive(Debug)]
pub(crate) struct Artifact<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) description: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) tag: String,
    pub(crate) wasm: &'a [u8],
}

/// A module that was found in a layout.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// `NAME@VERSION`, where the manifest says so.
    pub(crate) name: Option<String>,
    pub(crate) wasm: Vec<u8>,
}

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    /// The system refuses.
    #[error("cannot {what} {}: {cause}", path.display())]
    File { what: &'static str, path: PathBuf, cause: io::Error },
    /// It is not what it should be.
    #[error("{} is refused: {fault}", path.display())]
    Refused { path: PathBuf, fault: String },
}

impl From<OciError> for Failure {
    fn from(error: OciError) -> Self {
        Self::new(error.to_string())
    }
}

/// What a module is called in a layout unless it is said: a tag that every tool takes, as registries do.
pub(crate) fn default_tag(name: &str, version: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    format!("{name}-{version}").chars().map(plain).take(128).collect()
}

/// A tag as registries take it.
pub(crate) fn tag(text: &str) -> Result<String, String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    match first && plain && text.len() <= 128 {
        true => Ok(text.to_owned()),
        false => Err("a tag has 1 to 128 of A-Z a-z 0-9 _ . - and begins with none of the last two".into()),
    }
}

#[cfg(test)]
mod tests;
