//! The shard's part of topics' ingest: which modules there are, and what they made of batches.

use std::collections::BTreeMap;

use millstream_store::{Batch, Receipt, Topic};
use millstream_types::{Offset, PartitionId, Timestamp, TopicConfig, TopicName, UnstoredRecords};

use super::{Effect, Shard};
use crate::{
    Error,
    bindings::PinnedBinding,
    command::{Appended, Outcome},
    ingest::Judged,
    receipts::ReceiptRow,
    rows::{self, IngestRow},
};

impl Shard {
    /// Creates a topic with `pipeline` on its ingest, or finds it there with the same.
    pub(super) fn create_judged_topic(
        &mut self,
        name: TopicName,
        config: TopicConfig,
        pipeline: Vec<PinnedBinding>,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if let Some(row) = self.topics.get(&name)
            && row.ingest.pipeline != pipeline
        {
            return Err(Error::TopicExists(name));
        }
        self.check_modules(&pipeline)?;
        self.create_topic(name.clone(), config, now, batch, effects)?;
        self.set_ingest(&name, pipeline, now, batch, effects)
    }

    /// Has the records of a topic go through `pipeline` from now on.
    pub(super) fn set_ingest(
        &mut self,
        name: &TopicName,
        pipeline: Vec<PinnedBinding>,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        self.check_modules(&pipeline)?;
        let row = self.topics.get_mut(name).ok_or_else(|| Error::UnknownTopic(name.clone()))?;
        if row.ingest.pipeline == pipeline {
            return Ok(Outcome::Done);
        }
        self.modules.note_bound(&pipeline);
        let next = IngestRow { revision: row.ingest.revision + 1, pipeline, bound_ms: now };
        let before = std::mem::replace(&mut row.ingest, next);
        batch.put(&Topic(name.clone()), rows::encode(row));
        effects.push(Effect::IngestSet { name: name.clone(), ingest: row.ingest.clone() });
        for binding in &before.pipeline {
            self.drop_unneeded(&binding.sha256, batch);
        }
        Ok(Outcome::Done)
    }

    /// Appends what modules made of a batch that a producer sent, unless that was appended before: what its producer is told
    /// then is what it was told, whatever they make of it now.
    pub(super) fn publish_judged(
        &mut self,
        partition: PartitionId,
        judged: Judged,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let stamp = judged.stamp;
        if let Some(known) = self.appended_before(partition, stamp, judged.records as usize)? {
            return Ok(known);
        }
        let appended = self.append_judged(partition, judged, now, batch, effects)?;
        self.note_appended(partition, stamp, &appended, batch);
        if let Some(row) = ReceiptRow::of(stamp, &appended)
            && let Some(state) = self.partitions.get_mut(&partition)
        {
            let row = rows::encode(&row);
            let receipt = |sequence| Receipt { partition, producer: stamp.id, sequence };
            for old in state.receipts.note(stamp.id, stamp.sequence, row.len()) {
                batch.remove(&receipt(old));
            }
            batch.put(&receipt(stamp.sequence), row);
        }
        Ok(Outcome::Appended(appended))
    }

    pub(super) fn append_all_judged(
        &mut self,
        parts: Vec<(PartitionId, Judged)>,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Vec<Appended>, Error> {
        // Whatever could be refused is seen before anything is changed.
        for (partition, judged) in &parts {
            let state = self.partitions.get(partition).ok_or(Error::Gone)?;
            for records in judged.batches.iter().filter(|records| state.ids.concern(records)) {
                records.decompressed()?;
            }
        }
        let appended = parts
            .into_iter()
            .map(|(partition, judged)| self.append_judged(partition, judged, now, batch, effects));
        appended.collect()
    }

    /// Appends what was not appended before by its message ids.
    fn append_judged(
        &mut self,
        partition: PartitionId,
        judged: Judged,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Appended, Error> {
        let Judged { records, batches, sources, unstored, .. } = judged;
        let state = self.partitions.get(&partition).ok_or(Error::Gone)?;
        let (mut end, mut timestamp) = (state.next, now.max(state.newest));
        let Some(sources) = sources else {
            let whole = batches.into_iter().next();
            let whole = whole.ok_or_else(|| Error::Internal("a batch was judged and is not there".into()))?;
            return self.append_fresh(partition, whole, now, batch, effects);
        };
        // A record that was stored before is stored, whatever is made of it now.
        let known: BTreeMap<u32, Offset> =
            unstored.iter().filter_map(|it| Some((it.position, state.ids.find(it.message_id?)?))).collect();
        let (mut places, mut all_follow) = (Vec::with_capacity(sources.len()), known.is_empty());
        let mut rest = sources.as_slice();
        for made in batches {
            let (own, further) = rest.split_at(made.view().len().min(rest.len()));
            rest = further;
            let siblings = |a: usize, b: usize| own.get(a) == own.get(b);
            let appended = self.append_fresh_of(partition, made, siblings, now, batch, effects)?;
            all_follow &= appended.offsets.is_empty();
            match appended.offsets.is_empty() {
                true => {
                    places.extend(appended.base_offset..appended.base_offset + u64::from(appended.records))
                }
                false => places.extend(appended.offsets.iter().copied()),
            }
            timestamp = appended.timestamp;
            end = self.partitions.get(&partition).map_or(end, |state| state.next);
        }
        let unstored = unstored.into_iter().filter(|it| !known.contains_key(&it.position));
        let unstored = UnstoredRecords::collect(unstored.map(|it| (it.position, it.why)));
        let base_offset = places.first().copied().unwrap_or(end);
        let (mut offsets, mut at) = (Vec::with_capacity(records as usize), 0);
        for position in 0..records {
            let made = sources.iter().skip(at).take_while(|source| **source == position).count();
            all_follow &= made == 1 || unstored.get(position).is_some();
            let next = places.get(at).copied().unwrap_or(end);
            offsets.push(known.get(&position).copied().unwrap_or(next));
            at += made;
        }
        let offsets = if all_follow { Vec::new() } else { offsets };
        Ok(Appended { base_offset, records, timestamp, offsets: offsets.into(), unstored })
    }
}

#[cfg(test)]
mod tests {
    use millstream_store::{Options, Persist, Store};
    use millstream_types::{BatchBuilder, ProducerStamp, Record, RecordBatch, Unstored};

    use super::*;
    use crate::{
        Limits, command::Command, ingest::Refused, message_ids::hash, recover::recover, rows::ModuleRow,
    };

    const STAMP: ProducerStamp = ProducerStamp { id: 7, epoch: 0, sequence: 0 };

    fn topic() -> TopicName {
        "t".parse().unwrap()
    }

    struct Driven {
        shard: Shard,
        store: Store,
        _dir: tempfile::TempDir,
    }

    impl Driven {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
            let shard = recover(&store, Limits::default()).unwrap();
            let mut driven = Self { shard, store, _dir: dir };
            let create = Command::CreateTopic { name: topic(), config: TopicConfig::default(), now: 1 };
            driven.apply(create).unwrap();
            driven
        }

        fn apply(&mut self, command: Command) -> Result<Outcome, Error> {
            let (mut batch, mut effects) = (Batch::default(), Vec::new());
            let result = self.shard.apply(command, &mut batch, &mut effects).result;
            self.shard.seal(&mut batch);
            assert!(
                result.is_ok() || (batch.is_empty() && effects.is_empty()),
                "refused, and changed something"
            );
            self.store.commit(batch, Persist::Buffer).unwrap();
            result
        }

        fn append(&mut self, judged: Judged) -> Appended {
            let command = Command::AppendJudged { partition: PartitionId(0), judged, now: 5 };
            match self.apply(command).unwrap() {
                Outcome::Appended(appended) => appended,
                other => panic!("{other:?}"),
            }
        }

        fn restart(&mut self) {
            self.shard = recover(&self.store, Limits::default()).unwrap();
        }

        fn stored(&self) -> u64 {
            self.shard.partitions[&PartitionId(0)].next
        }
    }

    fn batch_of(payloads: &[(&str, Option<&str>)], stamp: ProducerStamp) -> RecordBatch {
        let mut builder = BatchBuilder::new().with_producer(stamp);
        for (payload, id) in payloads {
            let message_id = id.map(|id| id.to_owned().into());
            builder.push(&Record { message_id, ..Record::new(payload.to_string()) }).unwrap();
        }
        builder.build().unwrap()
    }

    fn rejected(position: u32, id: Option<&str>) -> Refused {
        let why = Unstored::Rejected { module: "m@1".into(), reason: "no".into() };
        Refused { position, message_id: id.map(|id| hash(id.as_bytes())), why }
    }

    /// Of three records, the first dropped, the second rejected, the third two.
    fn judged(stamp: ProducerStamp) -> Judged {
        let dropped = Refused { position: 0, message_id: None, why: Unstored::Dropped };
        Judged {
            stamp,
            records: 3,
            batches: vec![batch_of(&[("a", None), ("b", None)], stamp)],
            sources: Some(vec![2, 2]),
            unstored: vec![dropped, rejected(1, None)],
        }
    }

    #[test]
    fn each_record_is_told_where_it_stands_and_the_sequence_goes_on() {
        let mut driven = Driven::start();
        let first = driven.append(judged(STAMP));
        assert_eq!((first.base_offset, first.records, driven.stored()), (0, 3, 2));
        assert_eq!((first.offsets.as_ref(), first.unstored.len()), ([0, 0, 0].as_slice(), 2));
        assert_eq!(first.unstored.get(0), Some(&Unstored::Dropped));
        let all_refused = Judged {
            stamp: ProducerStamp { sequence: 3, ..STAMP },
            records: 2,
            batches: Vec::new(),
            sources: Some(Vec::new()),
            unstored: vec![rejected(0, None), rejected(1, None)],
        };
        let second = driven.append(all_refused.clone());
        assert_eq!((second.base_offset, second.unstored.len(), driven.stored()), (2, 2, 2));
        let third = batch_of(&[("c", None)], ProducerStamp { sequence: 5, ..STAMP });
        let third = driven.append(Judged::untouched(third));
        assert_eq!((third.base_offset, third.unstored.is_empty()), (2, true));
        // Sent again, whatever is made of them now.
        let again = batch_of(&[("a", None), ("b", None), ("c", None)], STAMP);
        assert_eq!(driven.append(Judged::untouched(again)), first);
        assert_eq!(driven.append(all_refused), second);
        assert_eq!(driven.stored(), 3);
    }

    #[test]
    fn after_a_restart_the_row_tells_what_the_log_does_not() {
        let mut driven = Driven::start();
        let first = driven.append(judged(STAMP));
        driven.restart();
        let command = Command::AppendJudged { partition: PartitionId(0), judged: judged(STAMP), now: 9 };
        let Ok(Outcome::Duplicate { stamp, records, .. }) = driven.apply(command) else {
            panic!("a duplicate")
        };
        let key = Receipt { partition: PartitionId(0), producer: stamp.id, sequence: stamp.sequence };
        let row = driven.store.get(&key).unwrap().unwrap();
        let row: ReceiptRow = rows::decode("receipt", &row).unwrap();
        assert_eq!(row.clone().into_appended(stamp, records), Some(first));
        assert_eq!(row.clone().into_appended(ProducerStamp { epoch: 1, ..stamp }, records), None);
        assert_eq!(row.into_appended(stamp, records + 1), None);
        driven.apply(Command::DeleteTopic { name: topic() }).unwrap();
        assert!(driven.store.get(&key).unwrap().is_none());
    }

    #[test]
    fn message_ids_hold_for_what_was_published_not_for_what_was_made_of_it() {
        let mut driven = Driven::start();
        let none = ProducerStamp { id: 0, ..STAMP };
        let made = || Judged {
            stamp: none,
            records: 2,
            batches: vec![batch_of(&[("a1", Some("a")), ("a2", Some("a")), ("b", Some("b"))], none)],
            sources: Some(vec![0, 0, 1]),
            unstored: Vec::new(),
        };
        let first = driven.append(made());
        assert_eq!((first.offsets.as_ref(), driven.stored()), ([0, 2].as_slice(), 3));
        assert_eq!(driven.append(made()).offsets.as_ref(), [0, 2]);
        // Rejected by others that were set since: it is stored all the same.
        let refused = Judged {
            stamp: none,
            records: 2,
            batches: vec![batch_of(&[("c", Some("c"))], none)],
            sources: Some(vec![1]),
            unstored: vec![rejected(0, Some("b"))],
        };
        let again = driven.append(refused);
        assert_eq!((again.offsets.as_ref(), again.unstored.is_empty()), ([2, 3].as_slice(), true));
        assert_eq!(driven.stored(), 4);
    }

    #[test]
    fn modules_that_are_bound_stay_and_changes_survive() {
        let mut driven = Driven::start();
        let sha256 = [1; 32];
        let pipeline = vec![PinnedBinding { module: "m@1".into(), sha256, config: "{}".into() }];
        let set = |pipeline| Command::SetIngest { name: topic(), pipeline, now: 7 };
        assert!(matches!(driven.apply(set(pipeline.clone())), Err(Error::UnknownModule(_))));
        let row = ModuleRow {
            sha256,
            bytes: 1,
            stored_ms: 1,
            manifest: None,
            signers: Vec::new(),
            deleted_ms: None,
            typed: Some(false),
            capabilities: Vec::new(),
        };
        let name = millstream_types::ModuleName::new("m@1").unwrap();
        driven
            .apply(Command::PutModule { name: Some(name.clone()), row: Box::new(row), wasm: vec![1].into() })
            .unwrap();
        driven.apply(set(pipeline.clone())).unwrap();
        driven.restart();
        let bound = IngestRow { revision: 1, pipeline: pipeline.clone(), bound_ms: 7 };
        assert_eq!(driven.shard.topics[&topic()].ingest, bound);
        let refused = driven.apply(Command::DeleteModule { name: name.clone(), now: 8 }).unwrap_err();
        assert!(refused.to_string().contains("the ingest of topic t"), "{refused}");
        // The same again changes nothing.
        driven.apply(set(pipeline.clone())).unwrap();
        assert_eq!(driven.shard.topics[&topic()].ingest, bound);
        let config = TopicConfig::default();
        let create = |pipeline| Command::CreateJudgedTopic {
            name: topic(),
            config: Box::new(config.clone()),
            pipeline,
            now: 9,
        };
        driven.apply(create(pipeline)).unwrap();
        assert!(matches!(driven.apply(create(Vec::new())), Err(Error::TopicExists(_))));
        driven.apply(set(Vec::new())).unwrap();
        driven.apply(Command::DeleteModule { name, now: 8 }).unwrap();
        driven.restart();
        assert_eq!(driven.shard.topics[&topic()].ingest.revision, 2);
    }
}
