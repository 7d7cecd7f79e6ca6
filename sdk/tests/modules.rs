//! Modules as users write them, through the harness that they test them with.

use millstream_sdk::Level;
use millstream_sdk::prelude::*;
use test::Verdict::{Drop, Keep};

mod filters {
    use super::*;

    #[filter(reads = "headers")]
    fn tagged(record: &Record) -> bool {
        record.header("tag").is_some()
    }

    #[filter]
    fn checked(record: &Record) -> Result<bool, String> {
        match record.payload() {
            b"" => Err(format!("record {} is empty", record.offset())),
            payload => Ok(payload.starts_with(b"a")),
        }
    }

    #[filter(reads = "headers")]
    fn careless(record: &Record) -> bool {
        record.payload().is_empty()
    }

    #[test]
    fn keep_and_drop() {
        let verdicts = test::run::<tagged>(json!({}), [test::record().header("tag", ""), test::record()]);
        assert_eq!(verdicts, [Keep, Drop]);
        let spec = test::configure::<tagged>(json!({})).expect("config");
        assert!(!spec.reads_payload && !spec.verdicts.reject && !spec.verdicts.emit);
    }

    #[test]
    fn an_err_rejects_with_its_text() {
        let records = ["a", "b", ""].map(|payload| test::record().offset(7).payload(payload));
        let verdicts = test::run::<checked>(json!({}), records);
        assert_eq!(verdicts[..2], [Keep, Drop]);
        assert_eq!(verdicts[2].reason(), "record 9 is empty");
        assert!(test::configure::<checked>(json!({})).expect("config").verdicts.reject);
    }

    #[test]
    #[should_panic(expected = "declares `reads = \"headers\"`")]
    fn a_payload_that_was_not_declared_is_not_silently_empty() {
        test::run::<careless>(json!({}), [test::record().payload("x")]);
    }

    #[test]
    fn a_config_is_refused_where_none_is_taken() {
        let error = test::configure::<tagged>(json!({"tag": 1})).expect_err("refused");
        assert_eq!(error.split(',').next(), Some("config field `tag`: unknown field `tag`"), "{error}");
        assert!(test::configure::<tagged>(json!([1])).is_err());
    }
}

mod maps {
    use super::*;

    #[map]
    fn upper(record: &Record) -> Result<Option<String>, PayloadError> {
        let text = record.text()?;
        Ok((!text.is_empty()).then(|| text.to_uppercase()))
    }

    #[map(topics = ["audit.*", "rest"])]
    fn outputs(record: &Record) -> Output {
        match record.header("do") {
            Some("same") => Output::same(),
            Some("all") => Output::payload("p").with_key("k").add_header("b", "2"),
            Some("none") => Output::tombstone().without_key().without_headers(),
            Some("audit") => Output::same().to_topic("audit.x"),
            Some("json") => Output::json(&std::collections::BTreeMap::from([((1, 2), 3)])),
            Some(topic) => Output::same().to_topic(topic),
            None => Output::same().add_header("", "x"),
        }
    }

    #[flat_map]
    fn words(record: &Record) -> Vec<Vec<u8>> {
        record
            .payload()
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    #[flat_map]
    fn as_it_is(_: &Record) -> Vec<Output> {
        vec![Output::same()]
    }

    #[test]
    fn a_payload_is_replaced() {
        let records = ["ab", ""].map(|payload| test::record().payload(payload));
        let verdicts = test::run::<upper>(json!({}), records.into_iter().chain([test::record().tombstone()]));
        assert_eq!(verdicts[0].emitted().text(), "AB");
        assert_eq!(verdicts[1], Drop);
        assert_eq!(verdicts[2].reason(), "the record has no payload (a tombstone)");
    }

    #[test]
    fn what_is_not_set_is_inherited() {
        let run = |header: &str| {
            let record = test::record().key("key").header("do", header.to_owned()).payload("payload");
            test::run::<outputs>(json!({}), [record]).remove(0)
        };
        assert_eq!(run("same"), Keep);
        let all = run("all");
        let all = all.emitted();
        assert_eq!((all.text(), all.key.as_deref()), ("p", Some(b"k".as_slice())));
        assert_eq!(all.headers, [("do".into(), b"all".to_vec()), ("b".into(), b"2".to_vec())]);
        let none = run("none");
        let none = none.emitted();
        assert_eq!((&none.payload, &none.key, none.headers.len()), (&None, &None, 0));
        let audit = run("audit");
        assert_eq!(audit.emitted().topic.as_deref(), Some("audit.x"));
        assert_eq!(audit.emitted().text(), "payload");
        assert!(run("json").reason().starts_with("the module's output cannot be written as JSON"));
        assert!(run("not a topic").reason().starts_with("topic name \"not a topic\""));
    }

    #[test]
    fn headers_out_of_bounds_reject() {
        let verdicts = test::run::<outputs>(json!({}), [test::record()]);
        assert!(verdicts[0].reason().contains("a header whose name has 0 bytes"));
    }

    #[test]
    #[should_panic(expected = "announces only")]
    fn an_undeclared_topic_is_found_in_tests() {
        test::run::<outputs>(json!({}), [test::record().header("do", "elsewhere")]);
    }

    #[test]
    fn one_record_becomes_several() {
        let verdicts = test::run::<words>(json!({}), [test::record().payload("a  b"), test::record()]);
        let test::Verdict::Emit(outputs) = &verdicts[0] else { panic!("{verdicts:?}") };
        assert_eq!(outputs.iter().map(|output| output.text()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(verdicts[1], Drop);
        assert_eq!(test::run::<as_it_is>(json!({}), [test::record()]), [Keep]);
    }
}

mod routes {
    use super::*;

    #[derive(ModuleConfig)]
    struct Config {
        #[serde(default)]
        prefix: String,
        to: Vec<String>,
    }

    impl Config {
        fn topics(&self) -> Vec<String> {
            self.to.iter().map(|to| format!("{}{to}", self.prefix)).collect()
        }

        fn validate(&self) -> Result<(), String> {
            if self.to.is_empty() { Err("`to` is empty: name a topic".into()) } else { Ok(()) }
        }
    }

    #[route(topics_from = Config::topics, reads = "headers")]
    fn copies(_: &Record, config: &Config) -> Vec<String> {
        config.topics()
    }

    #[route]
    fn by_key<'a>(record: &Record<'a>) -> Option<&'a str> {
        record.key_text()
    }

    #[test]
    fn several_topics() {
        let config = json!({"prefix": "a.", "to": ["b", "c"]});
        let verdicts = test::run::<copies>(&config, [test::record().key("k")]);
        let test::Verdict::Emit(outputs) = &verdicts[0] else { panic!("{verdicts:?}") };
        let topics: Vec<_> = outputs.iter().map(|output| output.topic.as_deref()).collect();
        assert_eq!(topics, [Some("a.b"), Some("a.c")]);
        assert_eq!(test::configure::<copies>(&config).expect("config").topics, ["a.b", "a.c"]);
    }

    #[test]
    fn none_drops_and_any_topic_is_announced() {
        let verdicts = test::run::<by_key>(json!({}), [test::record().key("x.y"), test::record()]);
        assert_eq!(verdicts[0].emitted().topic.as_deref(), Some("x.y"));
        assert_eq!(verdicts[1], Drop);
        assert_eq!(test::configure::<by_key>(json!({})).expect("config").topics, [">"]);
    }

    #[test]
    fn configurations_are_refused_by_field() {
        let error = |config: Value| test::configure::<copies>(config).expect_err("refused");
        assert_eq!(error(json!({})), "config: missing field `to`");
        assert_eq!(error(json!({"to": []})), "config: `to` is empty: name a topic");
        assert!(
            error(json!({"to": ["a", 1]})).starts_with("config field `to[1]`: invalid type: integer `1`")
        );
        assert!(
            error(json!({"to": ["a"], "prefx": ""}))
                .starts_with("config field `prefx`: unknown field `prefx`")
        );
    }
}

mod logging {
    use super::*;

    #[filter]
    fn chatty(record: &Record) -> bool {
        let len = record.payload_len();
        log::info!("{len} bytes at {}", record.timestamp());
        log::warn!("done");
        true
    }

    #[test]
    fn lines_are_kept_for_tests() {
        test::run::<chatty>(json!({}), [test::record().timestamp(5).payload("abc")]);
        let wanted = [(Level::Info, "3 bytes at 5".to_owned()), (Level::Warn, "done".to_owned())];
        assert_eq!(test::logs(), wanted);
        assert!(test::logs().is_empty());
    }
}

#[test]
fn an_enum_may_be_a_configuration() {
    #[derive(ModuleConfig, Debug, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Config {
        Everything,
        Only { kind: String },
    }

    use millstream_sdk::ModuleConfig as _;
    assert_eq!(Config::from_json("\"everything\""), Ok(Config::Everything));
    assert_eq!(Config::from_json(r#"{"only": {"kind": "x"}}"#), Ok(Config::Only { kind: "x".into() }));
    assert!(Config::from_json(r#"{"only": {"knd": "x"}}"#).is_err());
    assert!(Config::from_json("{} {}").is_err());
}
