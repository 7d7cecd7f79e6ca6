//! Modules on a topic's ingest: on the command line, and over kills.

use millstream_tests::Binary;
use serde_json::Value;

const SCHEMA: &str = r#"{"schema": {"type": "object", "required": ["n"]}}"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn records_are_refused_one_by_one_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    let created = broker
        .run(["topic", "create", "t", "--module", "std/schema", "--config", SCHEMA, "--partitions", "2"])
        .ok();
    assert!(created.contains("ingest through std/schema@"), "{created}");
    let input = "{\"n\": 1}\n\n{\"m\": 2}\n{\"n\": 3}\n[]\n";
    let publish = ["publish", "t", "--format", "ndjson"];
    let done = broker.run_with(publish, input);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("2 records published to t, 2 rejected in "), "{}", done.stdout);
    let refused = "record 2 (line 3) rejected by module std/schema@";
    assert!(
        done.stderr.contains(refused) && done.stderr.contains("missing properties 'n'"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("record 4 (line 5)"), "{}", done.stderr);
    assert!(done.stderr.contains("error: 2 of 4 records did not get past the modules"), "{}", done.stderr);

    let done = broker.run_with(["--json", "publish", "t", "--format", "ndjson"], input);
    assert_eq!(done.code, Some(1), "{done:?}");
    let summary = json(&done.stdout);
    assert_eq!(
        (&summary["records"], &summary["rejected"], &summary["dropped"]),
        (&2.into(), &2.into(), &0.into())
    );
    let lines: Vec<_> = done.stderr.lines().map(json).collect();
    let first = lines.iter().find(|line| line["record"] == 2).unwrap();
    assert_eq!((&first["line"], first["reason"].as_str().is_some()), (&3.into(), true), "{first}");
    let error = lines.last().unwrap();
    assert_eq!((&error["rejected"], &error["records"]), (&2.into(), &2.into()), "{error}");
    assert!(error["error"]["message"].is_string());
    let all_good = broker.run_with(publish, "{\"n\": 1}\n").ok();
    assert!(!all_good.contains("rejected"), "{all_good}");

    let shown = broker.run(["topic", "describe", "t"]).ok();
    assert!(shown.contains("ingest      std/schema@") && shown.contains("sha256:"), "{shown}");
    assert!(shown.contains("revision 1, since 2"), "{shown}");
    assert!(shown.contains("9 records in, 4 rejected, 0 at fault, 0 dropped, 0 changed"), "{shown}");
    assert!(broker.run(["topic", "list"]).ok().contains("std/schema@"));
    let listed = json(&broker.run(["--json", "topic", "list"]).ok());
    assert_eq!(listed[0]["ingest"]["pipeline"][0]["config"], "", "lists leave it out");
    let module = broker.run(["module", "describe", "std/schema"]).ok();
    assert!(module.contains("the ingest of topic t"), "{module}");
    let log = broker.run(["module", "logs", "--subscription", "ingest.t", "--level", "warn"]).ok();
    assert!(log.contains("ingest of topic t partition") && log.contains("rejected"), "{log}");

    for (arguments, code, said) in [
        (&["topic", "ingest", "t"][..], 2, "nothing is to be changed"),
        (&["topic", "ingest", "t", "--none", "--module", "std/json"], 2, "--none stands beside --module"),
        (
            &["topic", "ingest", "t", "--module", "std/schema", "--config", "{}"],
            1,
            "refused its configuration",
        ),
        (&["topic", "ingest", "nowhere", "--none"], 1, "nowhere"),
    ] {
        let error = broker.run(arguments).fails(code);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    let set = broker.run(["topic", "ingest", "t", "--none"]).ok();
    assert!(set.contains("stored as they are published"), "{set}");
    broker.run_with(publish, input).ok();
}

#[test]
fn what_is_set_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Binary::serve(dir.path());
    broker.run(["topic", "create", "t"]).ok();
    let set =
        ["topic", "ingest", "t", "--module", "std/schema", "--config", SCHEMA, "--module", "std/redact"];
    let set = [&set[..], &["--config", r#"{"remove": ["/secret"]}"#]].concat();
    let told = broker.run(&set).ok();
    assert!(told.contains("go through std/schema@") && told.contains("std/redact@"), "{told}");
    broker.kill();
    let broker = Binary::serve(dir.path());
    let publish = ["publish", "t", "--format", "ndjson"];
    let error = broker.run_with(publish, "{\"n\": 1, \"secret\": 7}\n{\"secret\": 8}\n").fails(1);
    assert!(error.contains("record 2 (line 2)"), "{error}");
    broker.kill();
    let broker = Binary::serve(dir.path());
    let read = broker.run(["subscribe", "t", "--from", "earliest", "--until-end"]).ok();
    assert!(read.lines().count() == 1 && !read.contains("secret"), "{read}");
    let described = json(&broker.run(["--json", "topic", "describe", "t"]).ok());
    assert_eq!(
        (&described["ingest"]["revision"], &described["ingest"]["records_in"]),
        (&1.into(), &0.into())
    );
}
