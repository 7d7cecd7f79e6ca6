//! What keeps a broker from starting: each thing is named, with its remedy, and the exit code is 1.

use std::{fs, path::Path, process::Command};

use millstream_tests::{Binary, Output, millstream, run};

fn serve(data: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(millstream());
    run(command.arg("serve").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]).args(more), "")
}

#[test]
fn a_folder_in_use_or_a_port_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    let told = serve(dir.path(), &[]).fails(1);
    assert!(told.contains(dir.path().to_str().unwrap()) && told.contains("another"), "{told}");

    let port = broker.url().split(['?', '/']).nth(2).unwrap().to_owned();
    let other = tempfile::tempdir().unwrap();
    let mut command = Command::new(millstream());
    let told = run(command.args(["serve", "--listen", &port, "--data"]).arg(other.path()), "").fails(1);
    assert!(told.contains(&port) && told.contains("--listen"), "{told}");
    // The first one is unmoved.
    broker.run(["topic", "create", "t"]).ok();
}

#[test]
fn a_file_for_a_folder_and_a_newer_format() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(serve(&file, &[]).fails(1).contains("file"));

    let data = dir.path().join("data");
    drop(Binary::serve(&data));
    let format = data.join("store/format");
    let newer = fs::read_to_string(&format).unwrap().replace('1', "999");
    fs::write(&format, newer).unwrap();
    let told = serve(&data, &[]).fails(1);
    assert!(told.contains("999") && told.contains("newer"), "{told}");
}

#[test]
fn a_configuration_file_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("broker.toml");
    let data = dir.path().join("data");
    let with = |text: &str| {
        fs::write(&config, text).unwrap();
        serve(&data, &["--config", config.to_str().unwrap()]).fails(2)
    };
    assert!(with("lisen = \"127.0.0.1:1\"").contains("lisen"));
    assert!(with("listen = 7").contains("listen"));
    let missing = dir.path().join("none.toml");
    assert!(serve(&data, &["--config", missing.to_str().unwrap()]).fails(2).contains("none.toml"));
}

#[test]
fn a_damaged_journal_is_refused_loudly() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "t"]).ok();
    // In two steps, since all that waits at once may be one commit.
    for lines in [0..500, 500..2_000] {
        let lines: String = lines.map(|n| format!("line {n} of some length to fill the journal\n")).collect();
        broker.run_with(["publish", "t", "--format", "lines", "--batch-bytes", "4096"], &lines).ok();
    }
    broker.kill();
    let journal = journal_of(&dir.path().join("store"));
    let mut bytes = fs::read(&journal).unwrap();
    let marker = b"line 700 of";
    let at = bytes
        .windows(marker.len())
        .position(|window| window == marker)
        .expect("the record is in the journal");
    bytes[at] ^= 1;
    fs::write(&journal, bytes).unwrap();

    let told = serve(dir.path(), &[]).fails(1);
    assert!(told.contains("partition 0") && told.contains("--accept-data-loss"), "{told}");
    // As told, it starts without what is lost; what was before the damage is there.
    let mut command = Command::new(millstream());
    let mut child = command
        .args(["serve", "--accept-data-loss", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path())
        .spawn()
        .unwrap();
    fs::remove_file(dir.path().join("client.url")).unwrap();
    let url = loop {
        match fs::read_to_string(dir.path().join("client.url")) {
            Ok(url) => break url.trim().to_owned(),
            Err(_) => assert!(child.try_wait().unwrap().is_none(), "it ended"),
        }
    };
    let mut command = Command::new(millstream());
    let read = run(command.args(["--url", &url, "subscribe", "t", "--until-end"]), "").ok();
    child.kill().unwrap();
    child.wait().unwrap();
    let found = read.lines().count();
    assert!((500..=700).contains(&found), "{found} lines");
    assert!(read.starts_with("line 0 of"));
}

/// The largest file of the journal.
fn journal_of(store: &Path) -> std::path::PathBuf {
    let mut folders = vec![store.to_owned()];
    let mut largest = (0, store.to_owned());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "jnl") {
                largest = largest.max((entry.metadata().unwrap().len(), path));
            }
        }
    }
    largest.1
}
