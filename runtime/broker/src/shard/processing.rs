//! Processors in the shard: what one made of its records, what it remembers and how far it came change in one step.

use millstream_store::{Batch, StateEntry, StateSize, Subscription};
use millstream_types::{ProcessorChange, SubscriptionName};

use super::{Effect, Shard};
use crate::{
    Error,
    command::{Outcome, Processed},
    rows::{self, StateSizeRow},
};

impl Shard {
    pub(super) fn process(
        &mut self,
        processed: Processed,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let Processed { processor, partition, from, to, outputs, changes, size, now } = processed;
        // A sink that was deleted meanwhile must be seen before anything is changed.
        if outputs.iter().any(|(sink, _)| !self.partitions.contains_key(sink)) {
            return Err(Error::Gone);
        }
        let row = self.subscriptions.get(&processor).and_then(|state| state.row.processor.as_ref());
        let paused = row.is_some_and(|row| row.paused);
        let cursor = self.cursor(processor, partition).ok_or(Error::Gone)?;
        // Once it is told to pause nothing more counts; what is thrown away is done again when it goes on.
        if paused || cursor.settled.below() != from {
            return Err(Error::Overtaken);
        }
        cursor.settle(from..to, processor, partition, batch);
        let state = self.subscriptions.get_mut(&processor).ok_or(Error::Gone)?;
        let name = state.row.name.clone();
        if !changes.is_empty() {
            state.state = size;
            batch.put(&StateSize(processor), rows::encode(&StateSizeRow::from(size)));
        }
        for (key, value) in changes {
            let entry = StateEntry { processor, key };
            match value {
                Some(value) => batch.put(&entry, value),
                None => batch.remove(&entry),
            }
        }
        for (sink, records) in outputs {
            self.append(sink, records, now, batch, effects)?;
        }
        effects.push(Effect::Processed { name, partition, range: from..to, size });
        Ok(Outcome::Done)
    }

    pub(super) fn change_processor(
        &mut self,
        name: &SubscriptionName,
        change: ProcessorChange,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let found = self.subscriptions.iter_mut().find(|(_, state)| state.row.name == *name);
        let (id, state) = found.ok_or_else(|| Error::UnknownSubscription(name.clone()))?;
        let processor = state.row.processor.as_mut().ok_or_else(|| Error::NoProcessor(name.clone()))?;
        match change {
            ProcessorChange::Paused(paused) => processor.paused = paused,
            ProcessorChange::StateBytesMax(max) => processor.state_bytes_max = max,
        }
        batch.put(&Subscription(*id), rows::encode(&state.row));
        // Told also where nothing changes: going on tries again what has failed.
        effects.push(Effect::ProcessorChanged { name: name.clone(), change });
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use millstream_engine::StateSize;
    use millstream_store::{Options, Persist, RemovedState, StateEntriesOf, Store};
    use millstream_types::{
        BatchBuilder, DeliveryConfig, Offset, OnFault, PartitionId, Record, RecordBatch, TopicConfig,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Limits,
        bindings::Bindings,
        command::Command,
        recover::recover,
        rows::{ProcessorRow, SubscriptionRow},
    };

    const SOURCE: PartitionId = PartitionId(0);

    #[derive(Debug, Clone)]
    enum Act {
        /// From where it is, or elsewhere; to a sink that is there, or is not.
        Process {
            off: bool,
            records: u64,
            gone: bool,
            changes: Vec<(u8, Option<u8>)>,
        },
        /// A record is to be processed again, as a dead letter that is sent back.
        Reopen {
            offset: Offset,
        },
        Change(ProcessorChange),
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        let changes = prop::collection::vec((0..5_u8, prop::option::of(any::<u8>())), 0..4);
        prop_oneof![
            6 => (prop::bool::weighted(0.2), 1..5_u64, prop::bool::weighted(0.1), changes)
                .prop_map(|(off, records, gone, changes)| Act::Process { off, records, gone, changes }),
            1 => (0..20_u64).prop_map(|offset| Act::Reopen { offset }),
            1 => any::<bool>().prop_map(|paused| Act::Change(ProcessorChange::Paused(paused))),
            1 => (1..2_000_u64).prop_map(|max| Act::Change(ProcessorChange::StateBytesMax(max))),
            2 => Just(Act::Restart),
        ]
    }

    fn name() -> SubscriptionName {
        "p".parse().unwrap()
    }

    fn row() -> SubscriptionRow {
        SubscriptionRow {
            name: name(),
            topic: "source".parse().unwrap(),
            bindings: Bindings::new(Vec::new(), OnFault::Halt, 1),
            delivery: DeliveryConfig::default(),
            created_ms: 1,
            processor: Some(ProcessorRow {
                also: Vec::new(),
                sink: Some("sink".parse().unwrap()),
                state_bytes_max: 1_000,
                paused: false,
            }),
        }
    }

    fn batch(records: u64) -> RecordBatch {
        let mut builder = BatchBuilder::new();
        (0..records).for_each(|_| builder.push(&Record::new("x")).unwrap());
        builder.build().unwrap()
    }

    fn apply(shard: &mut Shard, store: &Store, command: Command) -> Result<Outcome, Error> {
        let (mut batch, mut effects) = (Batch::default(), Vec::new());
        let applied = shard.apply(command, &mut batch, &mut effects);
        assert!(applied.result.is_ok() || (batch.is_empty() && effects.is_empty()), "refused, and changed");
        store.commit(batch, Persist::Buffer).unwrap();
        applied.result
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 60, ..ProptestConfig::default() })]
        /// What it made, what it remembers and how far it came change together or not at all, over restarts.
        #[test]
        fn a_step_is_done_once_and_whole(acts in prop::collection::vec(act(), 1..40)) {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
            let mut shard = recover(&store, Limits::default()).unwrap();
            for topic in ["source", "sink"] {
                let name = topic.parse().unwrap();
                apply(&mut shard, &store, Command::CreateTopic { name, config: TopicConfig::default(), now: 1 }).unwrap();
            }
            let create = Command::CreateSubscription { row: Box::new(row()), cursors: Vec::new() };
            apply(&mut shard, &store, create).unwrap();
            let (mut open, mut end, mut made, mut paused, mut max) = (Vec::new(), 0, 0, false, 1_000);
            let mut remembered = BTreeMap::<Bytes, Bytes>::new();
            for act in acts {
                let from = open.first().copied().unwrap_or(end);
                match act {
                    Act::Process { off, records, gone, changes } => {
                        let to = if open.is_empty() { from + records } else { from + 1 };
                        let mut after = remembered.clone();
                        let mut told = BTreeMap::new();
                        for (key, value) in changes {
                            let (key, value) = (Bytes::from(vec![key]), value.map(|value| Bytes::from(vec![value])));
                            match value.clone() {
                                Some(value) => drop(after.insert(key.clone(), value)),
                                None => drop(after.remove(&key)),
                            }
                            told.insert(key, value);
                        }
                        let size = StateSize { entries: after.len() as u64, bytes: after.len() as u64 * 34 };
                        let processed = Processed {
                            processor: 0,
                            partition: SOURCE,
                            from: from + u64::from(off),
                            to: to + u64::from(off),
                            outputs: vec![(PartitionId(if gone { 9 } else { 1 }), batch(2))],
                            changes: told,
                            size,
                            now: 2,
                        };
                        let done = apply(&mut shard, &store, Command::Process(Box::new(processed)));
                        match (gone, off) {
                            (true, _) => prop_assert!(matches!(done, Err(Error::Gone)), "{:?}", done),
                            _ if off || paused => prop_assert!(matches!(done, Err(Error::Overtaken)), "{:?}", done),
                            _ => {
                                prop_assert!(done.is_ok(), "{:?}", done);
                                if open.is_empty() {
                                    end = to;
                                } else {
                                    open.remove(0);
                                }
                                made += 2;
                                remembered = after;
                            }
                        }
                    }
                    Act::Reopen { offset } if offset < end && !open.contains(&offset) => {
                        let (mut batch, id) = (Batch::default(), 0);
                        prop_assert!(shard.cursor(id, SOURCE).unwrap().reopen(offset, id, SOURCE, &mut batch));
                        store.commit(batch, Persist::Buffer).unwrap();
                        open.push(offset);
                        open.sort_unstable();
                    }
                    Act::Reopen { .. } => {}
                    Act::Change(change) => {
                        apply(&mut shard, &store, Command::ChangeProcessor { name: name(), change }).unwrap();
                        match change {
                            ProcessorChange::Paused(to) => paused = to,
                            ProcessorChange::StateBytesMax(to) => max = to,
                        }
                    }
                    Act::Restart => shard = recover(&store, Limits::default()).unwrap(),
                }
                let state = shard.subscriptions.get(&0).unwrap();
                let row = state.row.processor.as_ref().unwrap();
                prop_assert_eq!((row.paused, row.state_bytes_max), (paused, max));
                prop_assert_eq!(state.state.entries, remembered.len() as u64);
                prop_assert_eq!(state.cursors[0].1.settled.below(), open.first().copied().unwrap_or(end));
                prop_assert_eq!(store.partition(PartitionId(1)).unwrap().next_offset, made);
                let entries = StateEntriesOf { processor: 0, prefix: Bytes::new() };
                let found = store.scan_prefix(&entries).map(|entry| entry.unwrap());
                let found: BTreeMap<_, _> = found.map(|(entry, value)| (entry.key, value)).collect();
                prop_assert_eq!(&found, &remembered);
            }
            // What it remembered is marked to be removed with it.
            apply(&mut shard, &store, Command::DeleteSubscription { name: name() }).unwrap();
            prop_assert!(store.get(&RemovedState(0)).unwrap().is_some());
            prop_assert!(store.get(&StateSizeKey(0)).unwrap().is_none());
        }
    }

    use millstream_store::StateSize as StateSizeKey;
}
