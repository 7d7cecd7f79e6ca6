//! `--from`: where a new subscription starts.

use millstream_client::StartAt;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads `earliest`, `latest`, `offset:N` or `time:RFC3339`.
pub(crate) fn parse(text: &str) -> Result<StartAt, String> {
    match text.split_once(':') {
        None if text == "earliest" => Ok(StartAt::Earliest),
        None if text == "latest" => Ok(StartAt::Latest),
        Some(("offset", number)) => match number.parse() {
            Ok(offset) => Ok(StartAt::Offset(offset)),
            Err(_) => Err(format!("{number:?} is no offset: write a whole number from 0, as in offset:1200")),
        },
        Some(("time", time)) => match OffsetDateTime::parse(time, &Rfc3339) {
            Ok(time) => Ok(StartAt::Time(millis(time))),
            Err(error) => Err(format!(
                "{time:?} is no RFC 3339 time ({error}): write it as in time:2013-01-31T12:00:00Z"
            )),
        },
        _ => Err("write earliest, latest, offset:N or time:RFC3339".into()),
    }
}

fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).expect("years up to 9999 fit in ms of 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_start() {
        for (text, expected) in [
            ("earliest", StartAt::Earliest),
            ("latest", StartAt::Latest),
            ("offset:0", StartAt::Offset(0)),
            ("offset:18446744073709551615", StartAt::Offset(u64::MAX)),
            ("time:1970-01-01T00:00:01Z", StartAt::Time(1_000)),
            ("time:2013-01-01T12:00:00.250+02:00", StartAt::Time(1_357_034_400_250)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_named_with_the_remedy() {
        for (text, remedy) in [
            ("yesterday", "offset:N"),
            ("offset:-1", "offset:1200"),
            ("offset:", "offset:1200"),
            ("time:2013-01-01", "time:2013-01-31T12:00:00Z"),
            ("earliest:1", "offset:N"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
