//! Publishing to several topics and partitions at once: all or nothing.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use millstream_types::{BatchBuilder, Record, TopicName, limits::ATOMIC_BYTES_MAX, partition_for_key};
use millstream_wire::{AtomicPart, ErrorCode, Request, Response, WireError};

use crate::{CallError, Client, PublishError, RecordReceipt, admin::mismatch};

/// What a refusal means for who gave the records, of which each batch has those of one list in `places`.
fn refused_at(places: &[Vec<usize>], refused: WireError) -> PublishError {
    let index = || {
        let (part, record) = refused.value.as_deref()?.split_once(':')?;
        places.get(part.parse::<usize>().ok()?)?.get(record.parse::<usize>().ok()?).copied()
    };
    match (refused.code, index()) {
        (ErrorCode::RecordRefused, Some(index)) => PublishError::RefusedAt { index, refused },
        _ => CallError::Refused(refused).into(),
    }
}

impl Client {
    /// Publishes records to any topics, all of them or none; they are durable as the strictest of the topics asks. Keys
    /// decide partitions as a publisher's do; records of a topic without keys go to one partition together. At most 4
    /// MiB. Receipts are in the order of `records`.
    ///
    /// This is no [`Publisher`](crate::Publisher): if the connection is lost, whether they were stored is unknown. With
    /// message ids it is safe to publish them again.
    ///
    /// # Errors
    /// [`PublishError::Record`] for a record that no batch can hold, [`PublishError::RefusedAt`] when modules on a topic's ingest
    /// do not let a record in, and [`PublishError::Open`] when the broker refuses otherwise, with nothing stored, or is lost. If
    /// cancelled, they may be stored all the same.
    pub async fn publish_atomically(
        &self,
        records: Vec<(TopicName, Record)>,
    ) -> Result<Vec<RecordReceipt>, PublishError> {
        let mut partitions: BTreeMap<TopicName, u32> = BTreeMap::new();
        let mut builders: BTreeMap<(TopicName, u32), (BatchBuilder, Vec<usize>)> = BTreeMap::new();
        let count = records.len();
        for (index, (topic, record)) in records.into_iter().enumerate() {
            let of = match partitions.get(&topic) {
                Some(of) => *of,
                None => {
                    let of = self.describe_topic(topic.clone()).await?.config.partitions;
                    *partitions.entry(topic.clone()).or_insert(of)
                }
            };
            let key = record.key.as_ref().or(record.message_id.as_ref());
            let partition = key.map_or(0, |key| partition_for_key(key, of));
            let (builder, indexes) = builders.entry((topic, partition)).or_default();
            builder.push(&record)?;
            indexes.push(index);
        }
        let (mut parts, mut places, mut body) = (Vec::new(), Vec::new(), BytesMut::new());
        for ((topic, partition), (mut builder, indexes)) in builders {
            let bytes = builder.build()?.into_bytes();
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            parts.push(AtomicPart { topic, partition, bytes: len });
            body.extend_from_slice(&bytes);
            places.push(indexes);
        }
        if body.len() > ATOMIC_BYTES_MAX {
            let text = format!(
                "the records have {} bytes together, and {ATOMIC_BYTES_MAX} at most are published atomically",
                body.len()
            );
            let refused = WireError::refused(ErrorCode::TooLarge, text).with_value(body.len().to_string());
            return Err(CallError::Refused(refused).into());
        }
        let receipts = match self.request(Request::PublishAtomically { parts }, Bytes::from(body)).await {
            Ok(Response::Receipts(receipts)) if receipts.len() == places.len() => receipts,
            Ok(other) => return Err(mismatch(&other).into()),
            Err(CallError::Refused(refused)) => return Err(refused_at(&places, refused)),
            Err(error) => return Err(error.into()),
        };
        let mut found = vec![None; count];
        for (receipt, indexes) in receipts.iter().zip(places) {
            for (at, index) in (0..).zip(indexes) {
                if let Some(place) = found.get_mut(index) {
                    *place = Some(RecordReceipt::of(receipt, at)?);
                }
            }
        }
        let unanswered = || CallError::Protocol("a record was not answered".into()).into();
        found.into_iter().map(|receipt| receipt.ok_or_else(unanswered)).collect()
    }
}
