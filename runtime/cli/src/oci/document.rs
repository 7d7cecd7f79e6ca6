//! The JSON documents of a layout, as far as they concern us. What others wrote into an index is kept as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
pub(super) const WASM_TYPE: &str = "application/wasm";

pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const TITLE: &str = "org.opencontainers.image.title";
pub(super) const VERSION: &str = "org.opencontainers.image.version";
pub(super) const DESCRIPTION: &str = "org.opencontainers.image.description";

/// `oci-layout`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layout {
    pub(super) image_layout_version: String,
}

/// `index.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) manifests: Vec<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Index {
    pub(super) fn new() -> Self {
        let others = BTreeMap::from([("mediaType".to_owned(), INDEX_TYPE.into())]);
        Self { schema_version: 2, manifests: Vec::new(), others }
    }
}

/// What something is, which bytes, and how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(super) fn of(media_type: &str, bytes: &[u8]) -> Self {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let media_type = media_type.to_owned();
        Self { media_type, digest, size: bytes.len() as u64, artifact_type: None, annotations: None }
    }

    /// What it is called in the layout.
    pub(super) fn tag(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(REF_NAME).map(String::as_str)
    }

    /// Where its bytes are in a layout, if its digest is one that we know.
    pub(super) fn path(&self) -> Option<String> {
        let digits = self.digest.strip_prefix("sha256:")?;
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (hex && digits.len() == 64).then(|| format!("blobs/sha256/{digits}"))
    }
}

/// The manifest of one module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// `NAME@VERSION`, where it says so.
    pub(super) fn name(&self) -> Option<String> {
        let annotations = self.annotations.as_ref()?;
        Some(format!("{}@{}", annotations.get(TITLE)?, annotations.get(VERSION)?))
    }
}
