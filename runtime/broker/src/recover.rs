//! The shard as the store has it.

use std::collections::BTreeMap;

use millstream_engine::StateSize;
use millstream_store::{CursorsOf, IdentifiedBatch, ModuleBlob, SettledRunsOf, Store, TriedOf};
use millstream_types::{Check, Durability, RecordBatch};

use crate::{
    Error, Limits,
    message_ids::MessageIds,
    producers::Producers,
    receipts::Receipts,
    rows::{
        self, CursorRow, ModuleRow, NEXT_PARTITION, NEXT_SUBSCRIPTION, NamedProducerRow, StateSizeRow,
        SubscriptionRow, TopicRow, decode_u32, decode_u64,
    },
    shard::{PartitionCursor, PartitionState, Shard, SubscriptionState},
};

pub(crate) fn recover(store: &Store, limits: Limits) -> Result<Shard, Error> {
    let mut shard = Shard { limits, ..Shard::default() };
    for row in store.scan::<millstream_store::Topic>() {
        let (key, value) = row?;
        let row: TopicRow = rows::decode("topic", &value)?;
        for partition in &row.partitions {
            let stored = store.partition(*partition).unwrap_or_default();
            let state = PartitionState {
                next: stored.next_offset,
                low: stored.low_watermark,
                retention: row.config.retention,
                compaction: row.config.compaction,
                sync: row.config.durability == Durability::Sync,
                newest: stored.newest_ms,
                producers: Producers::default(),
                receipts: Receipts::default(),
                ids: MessageIds::new(row.config.dedup_window_ms),
            };
            shard.partitions.insert(*partition, state);
        }
        shard.topics.insert(key.0, row);
    }
    for row in store.scan::<millstream_store::Producer>() {
        let (key, value) = row?;
        if let Some(state) = shard.partitions.get_mut(&key.partition) {
            state.producers.recover(key.producer, rows::decode("producer", &value)?);
        }
    }
    for row in store.scan::<millstream_store::Receipt>() {
        let (key, value) = row?;
        let Some(state) = shard.partitions.get_mut(&key.partition) else { continue };
        let next = state.producers.row(key.producer).map_or(0, |row| row.next);
        state.receipts.recover(key.producer, next, key.sequence, value.len());
    }
    for row in store.scan::<millstream_store::IdentifiedBatch>() {
        let (IdentifiedBatch { partition, base_offset }, _) = row?;
        let Some(state) = shard.partitions.get_mut(&partition) else { continue };
        let Some(stored) = store.batch_at(partition, base_offset)? else { continue };
        if stored.base_offset == base_offset {
            let batch = RecordBatch::new(stored.bytes, Check::Crc)?;
            let timestamp = batch.view().timestamp();
            state.ids.appended(&batch, base_offset, timestamp);
        }
    }
    for row in store.scan::<millstream_store::NamedProducer>() {
        let (key, value) = row?;
        let row: NamedProducerRow = rows::decode("named producer", &value)?;
        shard.epochs.insert(row.id, row.epoch);
        shard.producers.insert(key.0, row);
    }
    for row in store.scan::<millstream_store::Subscription>() {
        let (key, value) = row?;
        let row: SubscriptionRow = rows::decode("subscription", &value)?;
        let topics = shard.topics.iter().filter(|(topic, _)| row.reads(topic));
        let partitions = topics.flat_map(|(_, topic)| topic.partitions.iter().copied());
        let mut cursors: BTreeMap<_, _> =
            partitions.map(|partition| (partition, PartitionCursor::default())).collect();
        for cursor in store.scan_prefix(&CursorsOf(key.0)) {
            let (place, value) = cursor?;
            if let Some(cursor) = cursors.get_mut(&place.partition) {
                *cursor = PartitionCursor::from(rows::decode::<CursorRow>("cursor", &value)?);
            }
        }
        for run in store.scan_prefix(&SettledRunsOf(key.0)) {
            let (run, end) = run?;
            if let Some(cursor) = cursors.get_mut(&run.partition) {
                cursor.settled.insert(run.start..decode_u64("settled run", &end)?, &mut |_| {});
            }
        }
        for tried in store.scan_prefix(&TriedOf(key.0)) {
            let (tried, row) = tried?;
            if let Some(cursor) = cursors.get_mut(&tried.partition) {
                cursor.tried.insert(tried.offset, rows::decode("tried record", &row)?);
            }
        }
        let state = match store.get(&millstream_store::StateSize(key.0))? {
            Some(size) => rows::decode::<StateSizeRow>("state size", &size)?.into(),
            None => StateSize::default(),
        };
        let cursors = cursors.into_iter().collect();
        shard.subscriptions.insert(key.0, SubscriptionState { row, cursors, state });
    }
    for row in store.scan::<millstream_store::Module>() {
        let (key, value) = row?;
        let row: ModuleRow = rows::decode("module", &value)?;
        let rows = match row.deleted_ms {
            None => &mut shard.modules.named,
            Some(_) => &mut shard.modules.deleted,
        };
        rows.insert(key.0, row);
    }
    for key in store.keys::<ModuleBlob>() {
        shard.modules.stored.insert(key?.0);
    }
    let counter = |key| store.get(&key)?.map_or(Ok(0), |value| decode_u32("counter", &value));
    shard.next_partition = counter(NEXT_PARTITION)?;
    shard.next_subscription = counter(NEXT_SUBSCRIPTION)?;
    Ok(shard)
}
