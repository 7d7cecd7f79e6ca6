//! Round trips and hostile bytes.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Field, Output, Verdict, VerdictError, VerdictWriter, VerdictsView};
use crate::{Header, TopicName};

#[derive(Debug, Clone)]
enum Wanted {
    Keep,
    Drop,
    Reject(String),
    Emit(Vec<Output>),
}

fn output() -> impl Strategy<Value = Output> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let field = move || prop_oneof![Just(Field::Inherit), prop::option::of(bytes()).prop_map(Field::Set)];
    let header = ("[a-z]{1,9}", bytes()).prop_map(|(name, value)| Header { name, value });
    let headers = prop_oneof![Just(Field::Inherit), prop::collection::vec(header, 0..4).prop_map(Field::Set)];
    let topic = prop::option::of("[a-z]{1,9}".prop_map(|name| TopicName::new(name).unwrap()));
    (topic, field(), headers, field()).prop_map(|(topic, key, headers, payload)| Output {
        topic,
        key,
        headers,
        payload,
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        Just(Wanted::Keep),
        Just(Wanted::Drop),
        ".{0,20}".prop_map(Wanted::Reject),
        prop::collection::vec(output(), 0..4).prop_map(Wanted::Emit),
    ]
}

fn write(all: &[Wanted]) -> Vec<u8> {
    let mut writer = VerdictWriter::with_capacity(all.len());
    for wanted in all {
        match wanted {
            Wanted::Keep => writer.keep(),
            Wanted::Drop => writer.drop(),
            Wanted::Reject(reason) => writer.reject(reason),
            Wanted::Emit(outputs) => writer.emit(outputs),
        }
    }
    writer.finish()
}

fn same_field(found: &Field<Option<&[u8]>>, wanted: &Field<Option<Bytes>>) -> bool {
    match (found, wanted) {
        (Field::Inherit, Field::Inherit) => true,
        (Field::Set(found), Field::Set(wanted)) => *found == wanted.as_deref(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn round_trip(all in prop::collection::vec(wanted(), 0..20)) {
        let bytes = write(&all);
        let view = VerdictsView::new(&bytes, all.len()).unwrap();
        prop_assert_eq!(view.iter().count(), all.len());
        for (found, wanted) in view.iter().zip(&all) {
            match (found, wanted) {
                (Verdict::Keep, Wanted::Keep) | (Verdict::Drop, Wanted::Drop) => {}
                (Verdict::Reject(found), Wanted::Reject(wanted)) => prop_assert_eq!(found, wanted),
                (Verdict::Emit(found), Wanted::Emit(wanted)) => {
                    prop_assert_eq!(found.len(), wanted.len());
                    for (found, wanted) in found.iter().zip(wanted) {
                        prop_assert_eq!(found.topic, wanted.topic.as_ref().map(TopicName::as_str));
                        prop_assert!(same_field(&found.key, &wanted.key));
                        prop_assert!(same_field(&found.payload, &wanted.payload));
                        match (found.headers, &wanted.headers) {
                            (Field::Inherit, Field::Inherit) => {}
                            (Field::Set(found), Field::Set(wanted)) => prop_assert_eq!(&found.to_headers(), wanted),
                            _ => prop_assert!(false, "headers differ"),
                        }
                    }
                }
                (found, wanted) => prop_assert!(false, "{found:?} is not {wanted:?}"),
            }
        }
    }

    #[test]
    fn damage_never_panics(all in prop::collection::vec(wanted(), 0..20), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = write(&all);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(view) = VerdictsView::new(&bytes, all.len()) {
            prop_assert_eq!(view.iter().count(), all.len());
        }
        prop_assert!(VerdictsView::new(&bytes[..at], all.len()).is_err());
    }
}

#[test]
fn faults_are_named() {
    let mut writer = VerdictWriter::default();
    writer.keep();
    let bytes = writer.finish();
    let error = VerdictsView::new(&bytes, 2).unwrap_err();
    assert_eq!(error, VerdictError::Count { wanted: 2, found: 1 });
    let mut odd = bytes.clone();
    odd[16] = 9;
    assert_eq!(VerdictsView::new(&odd, 1).unwrap_err(), VerdictError::Tag { index: 0, tag: 9 });
    assert!(matches!(VerdictsView::new(b"nonsense", 1), Err(VerdictError::Header(_))));
}
