//! Modules into a layout and out of it.

use std::{collections::BTreeMap, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Artifact, Found, OciError,
    config::{Config, FoundConfig},
    document::{
        CONFIG_TYPE, DESCRIPTION, Descriptor, INDEX, Index, LAYOUT, Layout, MANIFEST_TYPE, Manifest,
        REF_NAME, TITLE, VERSION, WASM_TYPE,
    },
    files::{self, Files},
};

const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// More than a broker takes, which says itself how much that is.
const WASM_BYTES_MAX: u64 = 256 << 20;
const MANIFESTS_MAX: usize = 10_000;

/// Adds a module to the layout at `path`, which is made if there is none; the digest of its manifest. A tag that the same
/// module has already is given to what it is now.
pub(crate) fn write(path: &Path, artifact: &Artifact<'_>) -> Result<String, OciError> {
    let refused = |fault| OciError::Refused { path: path.to_owned(), fault };
    let mut old = Files::open(path)?;
    let mut index = match &mut old {
        Some(files) if !files.is_empty() => index(path, files)?,
        _ => Index::new(),
    };
    let layer = Descriptor::of(WASM_TYPE, artifact.wasm);
    let config = encode(&Config::of(artifact, &layer.digest).map_err(refused)?);
    let mut annotations = BTreeMap::from([
        (TITLE.to_owned(), artifact.name.to_owned()),
        (VERSION.to_owned(), artifact.version.to_owned()),
    ]);
    annotations.extend(artifact.description.clone().map(|text| (DESCRIPTION.to_owned(), text)));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST_TYPE.to_owned()),
        config: Descriptor::of(CONFIG_TYPE, &config),
        layers: vec![layer.clone()],
        annotations: Some(annotations),
    };
    let bytes = encode(&manifest);
    let descriptor = Descriptor {
        artifact_type: Some(CONFIG_TYPE.to_owned()),
        annotations: Some(BTreeMap::from([(REF_NAME.to_owned(), artifact.tag.clone())])),
        ..Descriptor::of(MANIFEST_TYPE, &bytes)
    };
    let tagged = index.manifests.iter().position(|entry| tag_of(entry) == Some(&artifact.tag));
    if let (Some(at), Some(files)) = (tagged, &mut old) {
        let entry = index.manifests.remove(at);
        let taken_by = serde_json::from_value::<Descriptor>(entry).ok();
        let taken_by = taken_by.and_then(|entry| document::<Manifest>(path, files, &entry).ok()?.name());
        if taken_by != manifest.name() {
            let other = taken_by.unwrap_or_else(|| "something else".to_owned());
            return Err(refused(format!(
                "tag {} means {other} there already: give --tag another",
                artifact.tag
            )));
        }
    }
    if index.manifests.len() >= MANIFESTS_MAX {
        return Err(refused(format!("it has {MANIFESTS_MAX} manifests, as many as may be")));
    }
    let digest = descriptor.digest.clone();
    let blobs = [(&layer, artifact.wasm), (&manifest.config, &config), (&descriptor, &bytes)];
    let mut written: BTreeMap<_, _> =
        blobs.into_iter().filter_map(|(at, bytes)| Some((at.path()?, bytes.to_vec()))).collect();
    index.manifests.push(serde_json::to_value(&descriptor).map_err(|error| refused(error.to_string()))?);
    written.insert(LAYOUT.to_owned(), encode(&Layout { image_layout_version: "1.0.0".to_owned() }));
    written.insert(INDEX.to_owned(), encode(&index));
    files::write(path, old, &written, INDEX)?;
    Ok(digest)
}

/// The module of the layout at `path` that `wanted` means, a tag or `NAME@VERSION`; or the only one. Every digest and size
/// on the way to it is checked.
pub(crate) fn read(path: &Path, wanted: Option<&str>) -> Result<Found, OciError> {
    let refused = |fault: String| OciError::Refused { path: path.to_owned(), fault };
    let mut files =
        Files::open(path)?.ok_or_else(|| refused("there is no such file or folder".to_owned()))?;
    let index = index(path, &mut files)?;
    let mut entries = Vec::new();
    for entry in index.manifests {
        let entry: Descriptor = serde_json::from_value(entry)
            .map_err(|error| refused(format!("a manifest in its {INDEX} is malformed: {error}")))?;
        entries.push(entry);
    }
    let entry = choose(path, &mut files, &entries, wanted)?;
    if entry.media_type != MANIFEST_TYPE {
        return Err(refused(format!(
            "{} is of media type {}, and a module's manifest is of {MANIFEST_TYPE}",
            entry.tag().unwrap_or(&entry.digest),
            entry.media_type
        )));
    }
    let manifest: Manifest = document(path, &mut files, entry)?;
    let [layer] = manifest.layers.as_slice() else {
        let found = manifest.layers.len();
        return Err(refused(format!("its manifest has {found} layers; a module is one, of {WASM_TYPE}")));
    };
    for (what, found, wanted) in [("config", &manifest.config, CONFIG_TYPE), ("layer", layer, WASM_TYPE)] {
        if found.media_type != wanted {
            let found = &found.media_type;
            return Err(refused(format!(
                "its {what} is of media type {found}, and a module's is of {wanted}"
            )));
        }
    }
    let wasm = blob(path, &mut files, layer, WASM_BYTES_MAX)?;
    let config: FoundConfig = document(path, &mut files, &manifest.config)?;
    if config.layer_digests.is_some_and(|digests| digests != [layer.digest.clone()]) {
        return Err(refused("its config names another layer than its manifest".to_owned()));
    }
    Ok(Found { name: manifest.name(), wasm })
}

fn choose<'a>(
    path: &Path,
    files: &mut Files,
    entries: &'a [Descriptor],
    wanted: Option<&str>,
) -> Result<&'a Descriptor, OciError> {
    let refused = |fault: String| OciError::Refused { path: path.to_owned(), fault };
    let tags = || entries.iter().filter_map(Descriptor::tag).take(20).collect::<Vec<_>>().join(", ");
    match (wanted, entries) {
        (None, [one]) => Ok(one),
        (None, []) => Err(refused("it is empty".to_owned())),
        (None, several) => {
            Err(refused(format!("it has {} manifests: say which with --tag, of {}", several.len(), tags())))
        }
        (Some(wanted), _) => {
            if let Some(tagged) = entries.iter().find(|entry| entry.tag() == Some(wanted)) {
                return Ok(tagged);
            }
            let named = entries.iter().filter(|entry| entry.media_type == MANIFEST_TYPE).find(|entry| {
                let manifest = document::<Manifest>(path, files, entry);
                manifest.is_ok_and(|manifest| manifest.name().as_deref() == Some(wanted))
            });
            named.ok_or_else(|| refused(format!("it has no module {wanted}; its tags are {}", tags())))
        }
    }
}

fn index(path: &Path, files: &mut Files) -> Result<Index, OciError> {
    let refused = |fault: String| OciError::Refused { path: path.to_owned(), fault };
    let mut read = |name: &str| {
        let found = files.read(name, DOCUMENT_BYTES_MAX)?;
        found.ok_or_else(|| refused(format!("it is no OCI image layout: {name} is missing")))
    };
    let layout: Layout = parse(path, LAYOUT, &read(LAYOUT)?)?;
    if !layout.image_layout_version.starts_with("1.") {
        let found = layout.image_layout_version;
        return Err(refused(format!("it is an image layout of version {found}, and 1.0.0 is known")));
    }
    let index: Index = parse(path, INDEX, &read(INDEX)?)?;
    if index.manifests.len() > MANIFESTS_MAX {
        let found = index.manifests.len();
        return Err(refused(format!("it has {found} manifests, and {MANIFESTS_MAX} are the most")));
    }
    Ok(index)
}

fn tag_of(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(REF_NAME)?.as_str()
}

fn document<T: DeserializeOwned>(path: &Path, files: &mut Files, at: &Descriptor) -> Result<T, OciError> {
    let bytes = blob(path, files, at, DOCUMENT_BYTES_MAX)?;
    parse(path, &at.digest, &bytes)
}

/// The bytes that `at` describes, and no others.
fn blob(path: &Path, files: &mut Files, at: &Descriptor, max: u64) -> Result<Vec<u8>, OciError> {
    let refused = |fault: String| OciError::Refused { path: path.to_owned(), fault };
    let digest = &at.digest;
    let name = at.path().ok_or_else(|| {
        let shown: String = digest.chars().take(80).collect();
        refused(format!("the digest {shown:?} is not sha256: and 64 hexadecimal digits in small letters"))
    })?;
    if at.size > max {
        return Err(refused(format!("{digest} has {} bytes, and {max} are the most that are read", at.size)));
    }
    let bytes = files.read(&name, max)?.ok_or_else(|| refused(format!("{name} is missing")))?;
    if bytes.len() as u64 != at.size {
        return Err(refused(format!("{name} has {} bytes, and {} are announced", bytes.len(), at.size)));
    }
    let found = hex::encode(Sha256::digest(&bytes));
    if *digest != format!("sha256:{found}") {
        return Err(refused(format!("{name} was changed: its SHA-256 is {found}")));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(path: &Path, name: &str, bytes: &[u8]) -> Result<T, OciError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let fault = format!("{name} is malformed: {error}");
        OciError::Refused { path: path.to_owned(), fault }
    })
}

fn encode(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents of this module encode")
}
