//! What becomes of lines, JSON and CSV, and how faults are told.

use super::*;
use proptest::prelude::*;

fn read(format: Format, text: &[u8], shape: &Shape) -> Result<Vec<Record>, String> {
    shape.check(format).map_err(|failure| format!("{failure:?}"))?;
    let mut records = Records::new(text, format, shape.clone());
    let mut all = Vec::new();
    while let Some(record) = records.next_record().map_err(|error| error.to_string())? {
        all.push(record);
    }
    Ok(all)
}

fn payloads(format: Format, text: &str) -> Result<Vec<String>, String> {
    let records = read(format, text.as_bytes(), &Shape::default())?;
    Ok(records
        .into_iter()
        .map(|record| String::from_utf8(record.payload.unwrap().to_vec()).unwrap())
        .collect())
}

fn shape(key: Option<&str>, headers: &[&str]) -> Shape {
    Shape {
        key: key.map(str::to_owned),
        headers: headers.iter().map(|&name| name.to_owned()).collect(),
        fixed: vec![("source".to_owned(), "test".to_owned())],
        ..Shape::default()
    }
}

#[test]
fn lines_lose_only_their_ends() {
    assert_eq!(payloads(Format::Lines, "a\n\nb\r\n c ").unwrap(), ["a", "", "b", " c "]);
    assert_eq!(payloads(Format::Lines, "").unwrap(), [""; 0]);
    assert_eq!(payloads(Format::Lines, "a\n").unwrap(), ["a"]);
}

#[test]
fn a_line_is_bounded() {
    let long = vec![b'x'; ROW_BYTES_MAX + 1];
    let error = read(Format::Lines, &[b"a\n".as_slice(), &long].concat(), &Shape::default()).unwrap_err();
    assert!(error.starts_with("line 2: ") && error.contains("1048576"), "{error}");
}

#[test]
fn json_lines_stay_as_they_are() {
    let text = "{\"a\": 1.10}\n\n[1, 2]\r\n\"x\"\n";
    assert_eq!(payloads(Format::Ndjson, text).unwrap(), ["{\"a\": 1.10}", "[1, 2]", "\"x\""]);
    let error = payloads(Format::Ndjson, "{}\n{\"a\": }\n").unwrap_err();
    assert_eq!(error, "line 2: it is not JSON: expected value (column 7)");
}

#[test]
fn json_fields_become_key_and_headers() {
    let text = br#"{"id": 12345678901234567890123, "name": "a\"b", "none": null, "list": [1, 2]}"#;
    let records = read(Format::Ndjson, text, &shape(Some("id"), &["name", "none", "list", "gone"])).unwrap();
    let expected = Record::new(&text[..])
        .with_key("12345678901234567890123")
        .with_header("name", "a\"b")
        .with_header("list", "[1, 2]")
        .with_header("source", "test");
    assert_eq!(records, [expected]);
    let error = read(Format::Ndjson, b"[1]", &shape(Some("id"), &[])).unwrap_err();
    assert!(error.contains("line 1") && error.contains("no JSON object"), "{error}");
}

#[test]
fn tombstones_have_keys_and_no_payload() {
    let tombstones = |key| Shape { tombstones: true, ..shape(key, &[]) };
    let expected = |key: &str| Record::default().with_key(key.to_owned()).with_header("source", "test");
    let (lines, ids) = (tombstones(None), tombstones(Some("id")));
    assert_eq!(read(Format::Lines, b"a\n\nb c\n", &lines).unwrap(), [expected("a"), expected("b c")]);
    assert_eq!(read(Format::Ndjson, br#"{"id": 7, "x": 1}"#, &ids).unwrap(), [expected("7")]);
    assert_eq!(read(Format::Csv, b"id,x\n7,1\n", &ids).unwrap(), [expected("7")]);
    for (format, text, shape, said) in [
        (Format::Ndjson, "{}".to_owned(), &lines, "--key"),
        (Format::Ndjson, r#"{"id": null}"#.to_owned(), &ids, "line 1: it has no field \"id\""),
        (Format::Lines, "x".repeat(KEY_BYTES_MAX + 1), &lines, "at most 32768 fit"),
    ] {
        let error = read(format, text.as_bytes(), shape).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn csv_rows_become_objects() {
    let text = "id,name,delay,time\n1,\"a \"\"b\"\"\",-2.50,NA\n12345678901234567890.10,NA,,007\n";
    assert_eq!(
        payloads(Format::Csv, text).unwrap(),
        [
            r#"{"id":1,"name":"a \"b\"","delay":-2.50,"time":null}"#,
            r#"{"id":12345678901234567890.10,"name":null,"delay":null,"time":"007"}"#,
        ]
    );
}

#[test]
fn what_is_a_number_in_csv() {
    let cell = |text: &str| {
        let objects = payloads(Format::Csv, &format!("a,b\n{text},x\n")).unwrap();
        objects[0].strip_prefix("{\"a\":").unwrap().strip_suffix(",\"b\":\"x\"}").unwrap().to_owned()
    };
    for number in ["0", "-0", "12", "0.5", "-3.25", "1e3", "1E-7", "18446744073709551616"] {
        assert_eq!(cell(number), number);
    }
    for text in
        ["007", "+1", "1.", ".5", "-", "1e", "NaN", "inf", "1 ", " 1", "0x1f", "1e999", "N14228", "1,5"]
    {
        let quoted = if text.contains(',') { format!("\"{text}\"") } else { text.to_owned() };
        assert_eq!(cell(&quoted), format!("\"{text}\""));
    }
    assert_eq!((cell("NA"), cell("")), ("null".to_owned(), "null".to_owned()));
}

#[test]
fn csv_fields_become_key_and_headers() {
    let records =
        read(Format::Csv, b"id,carrier,tail\n7,UA,NA\n", &shape(Some("id"), &["carrier", "tail"])).unwrap();
    assert_eq!(records[0].key.as_deref(), Some(&b"7"[..]));
    assert_eq!(records[0].header("carrier"), Some(&b"UA"[..]));
    assert_eq!(records[0].header("tail"), None);
    assert_eq!(records[0].header("source"), Some(&b"test"[..]));
}

#[test]
fn csv_faults_name_line_and_counts() {
    for (text, expected) in [
        ("", "line 1: the file is empty"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 fields where the header line has 2"),
        ("a,b\n1\n", "line 2: 1 fields where the header line has 2"),
        ("a,b\n\"1\n2\",3\n4\n", "line 4: 1 fields"),
        ("a,a\n1,2\n", "line 1: the header line has \"a\" twice"),
    ] {
        let error = payloads(Format::Csv, text).unwrap_err();
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
    let error = read(Format::Csv, b"a,b\n1,\xff\n", &Shape::default()).unwrap_err();
    assert!(error.contains("line 2") && error.contains("\"b\""), "{error}");
    let error = read(Format::Csv, b"a,b\n1,2\n", &shape(Some("id"), &[])).unwrap_err();
    assert!(error.contains("\"id\"") && error.contains("a, b"), "{error}");
}

#[test]
fn an_open_quote_does_not_fill_memory() {
    let text = [b"a\n\"".as_slice(), &vec![b'x'; 4 * ROW_BYTES_MAX]].concat();
    let error = read(Format::Csv, &text, &Shape::default()).unwrap_err();
    assert!(error.contains("quote"), "{error}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_name() {
    assert_eq!(payloads(Format::Csv, "\u{feff}a,b\n1,2\n").unwrap(), [r#"{"a":1,"b":2}"#]);
}

#[test]
fn what_is_at_hand_is_known() {
    for (format, text) in [(Format::Lines, "a\nb\n"), (Format::Ndjson, "1\n2\n"), (Format::Csv, "a\n1\n2\n")]
    {
        let mut records = Records::new(text.as_bytes(), format, Shape::default());
        assert!(records.next_record().unwrap().is_some());
        assert!(records.has_more_at_hand(), "{format:?}");
        assert!(records.next_record().unwrap().is_some());
        assert!(!records.has_more_at_hand(), "{format:?}");
    }
}

#[test]
fn lines_have_no_fields() {
    assert!(read(Format::Lines, b"a", &shape(Some("id"), &[])).unwrap_err().contains("ndjson"));
    assert!(fixed_header("novalue").unwrap_err().contains("NAME=VALUE"));
    assert_eq!(fixed_header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    assert!(fixed_header("=b").is_err());
}

proptest! {
    #[test]
    fn every_csv_object_is_json(cells in proptest::collection::vec("[ -~\u{e9}\n]{0,12}", 1..6)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record((0..cells.len()).map(|at| format!("f{at}"))).unwrap();
        writer.write_record(&cells).unwrap();
        let objects = payloads(Format::Csv, std::str::from_utf8(&writer.into_inner().unwrap()).unwrap()).unwrap();
        let object: serde_json::Value = serde_json::from_str(&objects[0]).unwrap();
        for (at, cell) in cells.iter().enumerate() {
            let value = &object[format!("f{at}")];
            match value {
                serde_json::Value::Null => prop_assert!(cell.is_empty() || cell == "NA"),
                serde_json::Value::String(text) => prop_assert_eq!(text, cell),
                number => prop_assert_eq!(number.as_f64(), cell.parse().ok()),
            }
        }
    }
}
