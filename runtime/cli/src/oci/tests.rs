//! Layouts: ours, those of other tools, and bad ones.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    document::{CONFIG_TYPE, Descriptor, INDEX, LAYOUT, MANIFEST_TYPE, REF_NAME, WASM_TYPE},
    *,
};

/// The least component, with `text` in it.
fn component(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    [b"\0asm\x0d\0\x01\0".as_slice(), &[0, len + 1, len], text.as_bytes()].concat()
}

fn artifact<'a>(name: &'a str, version: &'a str, wasm: &'a [u8]) -> Artifact<'a> {
    let tag = default_tag(name, version);
    Artifact { name, version, description: Some("for tests".into()), created_ms: 0, tag, wasm }
}

/// A folder and an archive to put layouts in.
fn places() -> (tempfile::TempDir, [PathBuf; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("layout"), dir.path().join("layout.tar")];
    (dir, paths)
}

fn refusal(path: &Path, tag: Option<&str>) -> String {
    read(path, tag).unwrap_err().to_string()
}

#[test]
fn what_goes_in_comes_out() {
    let (_dir, places) = places();
    let (a, b) = (component("a"), component("b"));
    for place in &places {
        write(place, &artifact("late", "1.0.0", &a)).unwrap();
        let one = Found { name: Some("late@1.0.0".into()), wasm: a.clone() };
        assert_eq!(read(place, None).unwrap(), one);
        // A second one, and the first again.
        write(place, &artifact("acme/late", "1.0.0+b", &b)).unwrap();
        let digest = write(place, &artifact("late", "1.0.0", &a)).unwrap();
        assert_eq!(write(place, &artifact("late", "1.0.0", &a)).unwrap(), digest);
        for tag in ["late-1.0.0", "late@1.0.0"] {
            assert_eq!(read(place, Some(tag)).unwrap(), one, "{tag}");
        }
        for tag in ["acme-late-1.0.0-b", "acme/late@1.0.0+b"] {
            assert_eq!(read(place, Some(tag)).unwrap().wasm, b, "{tag}");
        }
        let several = refusal(place, None);
        assert!(several.contains("2 manifests") && several.contains("late-1.0.0"), "{several}");
        assert!(refusal(place, Some("x")).contains("its tags are"));
        // A tag means one module.
        let other = Artifact { tag: "late-1.0.0".into(), ..artifact("other", "2.0.0", &b) };
        let taken = write(place, &other).unwrap_err().to_string();
        assert!(taken.contains("late@1.0.0") && taken.contains("--tag"), "{taken}");
    }
    // The same modules, the same archive.
    let again = places[1].with_extension("again.tar");
    for (name, version, wasm) in [("acme/late", "1.0.0+b", &b), ("late", "1.0.0", &a)] {
        write(&again, &artifact(name, version, wasm)).unwrap();
    }
    assert_eq!(fs::read(&again).unwrap(), fs::read(&places[1]).unwrap());
}

#[test]
fn what_others_put_there_stays() {
    let (_dir, [place, _]) = places();
    let wasm = component("a");
    write(&place, &artifact("late", "1.0.0", &wasm)).unwrap();
    edit(&place, INDEX, |index| {
        index["annotations"] = json!({ "theirs": "kept" });
        let image = json!({
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": 2, "theirs": { "x": 1 },
            "digest": format!("sha256:{}", "0".repeat(64)), "platform": { "os": "linux", "architecture": "amd64" },
        });
        index["manifests"].as_array_mut().unwrap().push(image);
    });
    let before: Value = serde_json::from_slice(&fs::read(place.join(INDEX)).unwrap()).unwrap();
    write(&place, &artifact("late", "2.0.0", &wasm)).unwrap();
    let after: Value = serde_json::from_slice(&fs::read(place.join(INDEX)).unwrap()).unwrap();
    assert_eq!(
        (&after["annotations"], &after["manifests"][1]),
        (&before["annotations"], &before["manifests"][1])
    );
    assert_eq!(after["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(read(&place, Some("late-2.0.0")).unwrap().wasm, wasm);
}

#[test]
fn folders_of_something_else_are_left_alone() {
    let (_dir, [place, _]) = places();
    fs::create_dir(&place).unwrap();
    assert!(refusal(&place, None).contains("no OCI image layout: oci-layout is missing"));
    let wasm = component("a");
    fs::write(place.join("mine.txt"), "x").unwrap();
    let refused = write(&place, &artifact("late", "1.0.0", &wasm)).unwrap_err().to_string();
    assert!(refused.contains("no OCI image layout"), "{refused}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    assert!(refusal(&place.join("nowhere"), None).contains("no such file or folder"));
}

/// Changes a JSON document of a layout.
fn edit(place: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let mut document = serde_json::from_slice(&fs::read(place.join(name)).unwrap()).unwrap();
    change(&mut document);
    fs::write(place.join(name), document.to_string()).unwrap();
}

/// Puts a changed manifest into a layout of one module.
fn with_manifest(place: &Path, change: impl FnOnce(&mut Value)) {
    let index: Value = serde_json::from_slice(&fs::read(place.join(INDEX)).unwrap()).unwrap();
    let old: Descriptor = serde_json::from_value(index["manifests"][0].clone()).unwrap();
    let mut manifest = serde_json::from_slice(&fs::read(place.join(old.path().unwrap())).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = manifest.to_string().into_bytes();
    let new = Descriptor { annotations: old.annotations, ..Descriptor::of(MANIFEST_TYPE, &bytes) };
    fs::write(place.join(new.path().unwrap()), bytes).unwrap();
    edit(place, INDEX, |index| index["manifests"][0] = serde_json::to_value(new).unwrap());
}

#[test]
fn every_digest_size_and_type_is_checked() {
    let wasm = component("a");
    let layer = Descriptor::of(WASM_TYPE, &wasm);
    let blob = layer.path().unwrap();
    let none = format!("sha256:{}", "0".repeat(64));
    type Change<'a> = Box<dyn Fn(&Path) + 'a>;
    let manifest =
        |change: fn(&mut Value)| -> Change<'_> { Box::new(move |place| with_manifest(place, change)) };
    let index = |change: fn(&mut Value)| -> Change<'_> { Box::new(move |place| edit(place, INDEX, change)) };
    let changes: [(Change<'_>, &str); 17] = [
        (
            Box::new(|place| fs::write(place.join(&blob), component("b")).unwrap()),
            "was changed: its SHA-256 is",
        ),
        (
            Box::new(|place| fs::write(place.join(&blob), &wasm[1..]).unwrap()),
            "11 bytes, and 12 are announced",
        ),
        (Box::new(|place| fs::remove_file(place.join(&blob)).unwrap()), "is missing"),
        (
            Box::new(|place| fs::write(place.join(LAYOUT), r#"{"imageLayoutVersion": "2.0.0"}"#).unwrap()),
            "version 2.0.0",
        ),
        (Box::new(|place| fs::write(place.join(INDEX), "{").unwrap()), "index.json is malformed"),
        (
            Box::new(|place| {
                fs::rename(place.join(&blob), place.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink("../../elsewhere", place.join(&blob)).unwrap();
            }),
            "symbolic link",
        ),
        (
            Box::new(|place| {
                fs::rename(place.join("blobs"), place.with_extension("blobs")).unwrap();
                std::os::unix::fs::symlink(place.with_extension("blobs"), place.join("blobs")).unwrap();
            }),
            "symbolic link",
        ),
        (
            manifest(|manifest| manifest["layers"][0]["mediaType"] = "application/zip".into()),
            "application/zip",
        ),
        (
            manifest(|manifest| {
                manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json".into()
            }),
            "its config is of media type",
        ),
        (manifest(|manifest| manifest["layers"] = json!([])), "0 layers"),
        (manifest(|manifest| manifest["layers"][0]["size"] = (1_u64 << 40).into()), "1099511627776 bytes"),
        (
            manifest(|manifest| manifest["layers"][0]["digest"] = "sha256:../../../etc/passwd".into()),
            "64 hexadecimal digits",
        ),
        (manifest(|manifest| manifest["layers"][0]["digest"] = "sha512:00".into()), "sha256"),
        (
            manifest(
                |manifest| manifest["config"] = json!({ "mediaType": CONFIG_TYPE, "size": 0, "digest": format!("sha256:{}", "0".repeat(64)) }),
            ),
            &none[7..],
        ),
        (
            index(|index| {
                index["manifests"][0]["mediaType"] = "application/vnd.oci.image.index.v1+json".into()
            }),
            "image.index",
        ),
        (index(|index| index["manifests"][0]["size"] = "many".into()), "malformed"),
        (index(|index| index["manifests"] = Value::from(vec![Value::Null; 10_001])), "10001 manifests"),
    ];
    for (change, told) in changes {
        let (_dir, [place, _]) = places();
        write(&place, &artifact("late", "1.0.0", &wasm)).unwrap();
        change(&place);
        let refused = refusal(&place, None);
        assert!(refused.contains(told), "{told}: {refused}");
    }
    // A config that names another layer.
    let (_dir, [place, _]) = places();
    write(&place, &artifact("late", "1.0.0", &wasm)).unwrap();
    let config = json!({ "layerDigests": [none] }).to_string().into_bytes();
    let descriptor = Descriptor::of(CONFIG_TYPE, &config);
    fs::write(place.join(descriptor.path().unwrap()), config).unwrap();
    with_manifest(&place, |manifest| manifest["config"] = serde_json::to_value(descriptor).unwrap());
    assert!(refusal(&place, None).contains("another layer"));
}

/// An archive of `entries`: kind, path, link and bytes.
fn archive(path: &Path, entries: &[(tar::EntryType, &str, &str, &[u8])]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (kind, name, link, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        // Not by `set_path`, which takes no bad ones.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().flush().unwrap();
}

#[test]
fn bad_archives_are_refused() {
    use tar::EntryType as Type;
    let (_dir, [_, place]) = places();
    let file = |name| (Type::Regular, name, "", b"{}".as_slice());
    let huge = vec![b'a'; 70_000];
    for (entries, told) in [
        (
            vec![(Type::Symlink, "blobs/sha256", "/etc", b"".as_slice())],
            "neither a file nor a folder but Symlink",
        ),
        (vec![(Type::Link, "index.json", "/etc/passwd", b"")], "but Link"),
        (vec![(Type::Fifo, "index.json", "", b"")], "but Fifo"),
        (vec![(Type::GNUSparse, "index.json", "", b"")], "but GNUSparse"),
        (vec![file("../index.json")], "leaves the layout"),
        (vec![file("/index.json")], "leaves the layout"),
        (vec![file("blobs/../../x")], "leaves the layout"),
        (vec![file("index.json"), file("./index.json")], "there twice"),
        (vec![(Type::GNULongName, "././@LongLink", "", huge.as_slice()), file("x")], "70000 bytes"),
        (vec![(Type::XHeader, "pax", "", huge.as_slice()), file("x")], "70000 bytes"),
        (vec![file("index.json")], "oci-layout is missing"),
        (vec![file("x"); 20_001], "more than 20000 entries"),
    ] {
        archive(&place, &entries);
        let refused = refusal(&place, None);
        assert!(refused.contains(told), "{told}: {refused}");
    }
    fs::write(&place, [0x1f, 0x8b, 8, 0]).unwrap();
    assert!(refusal(&place, None).contains("compressed"));
    fs::write(&place, component("not a tar").repeat(100)).unwrap();
    assert!(refusal(&place, None).contains("no tar archive"));
    // Wherever it is cut off.
    write(&place.with_extension("2.tar"), &artifact("late", "1.0.0", &component("a"))).unwrap();
    let whole = fs::read(place.with_extension("2.tar")).unwrap();
    // Behind the last file there are at most 512 bytes that fill its block, and 1,024 that mark the end.
    for end in (1..whole.len() - 1_536).step_by(100) {
        fs::write(&place, &whole[..end]).unwrap();
        assert!(read(&place, None).is_err(), "cut off at {end}");
    }
}

#[test]
fn the_config_says_what_the_guidance_asks_for() {
    let (_dir, [place, _]) = places();
    let wasm = millstream_filters::stock()[0].wasm;
    write(&place, &artifact("std/headers", "0.1.0", wasm)).unwrap();
    let document =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(place.join(path)).unwrap()).unwrap() };
    let blob =
        |of: &Value| document(&serde_json::from_value::<Descriptor>(of.clone()).unwrap().path().unwrap());
    let index = document(INDEX);
    assert_eq!(index["manifests"][0]["annotations"][REF_NAME], "std-headers-0.1.0");
    let manifest = blob(&index["manifests"][0]);
    assert_eq!((&manifest["schemaVersion"], &manifest["mediaType"]), (&json!(2), &json!(MANIFEST_TYPE)));
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "std/headers");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.version"], "0.1.0");
    let config = blob(&manifest["config"]);
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([manifest["layers"][0]["digest"]]));
    let has = |kind: &str, name: &str| {
        config["component"][kind].as_array().unwrap().iter().any(|found| found.as_str() == Some(name))
    };
    assert!(has("exports", "configure") && has("exports", "process"), "{config}");
    assert!(has("imports", "millstream:module/log@1.0.0"), "{config}");
}

#[test]
fn tags_are_those_of_registries() {
    assert_eq!(default_tag("acme/late.v2", "1.0.0+x"), "acme-late.v2-1.0.0-x");
    assert_eq!(tag("1.0.0"), Ok("1.0.0".to_owned()));
    for bad in ["", "-x", ".x", "a b", "a:b", "a/b", &"x".repeat(129)] {
        assert!(tag(bad).is_err(), "{bad}");
    }
}
