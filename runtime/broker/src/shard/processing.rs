//! Processors in the shard: what one made of its records, what it remembers and how far it came change in one step.

use millstream_store::{Batch, StateEntry, StateSize, Subscription};
use millstream_types::SubscriptionName;

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
        let cursor = self.cursor(processor, partition).ok_or(Error::Gone)?;
        if cursor.settled.below() != from {
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

    pub(super) fn pause_processor(
        &mut self,
        name: &SubscriptionName,
        paused: bool,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let found = self.subscriptions.iter_mut().find(|(_, state)| state.row.name == *name);
        let (id, state) = found.ok_or_else(|| Error::UnknownSubscription(name.clone()))?;
        let processor = state.row.processor.as_mut().ok_or_else(|| Error::NoProcessor(name.clone()))?;
        processor.paused = paused;
        batch.put(&Subscription(*id), rows::encode(&state.row));
        // Told also where nothing changes: going on tries again what has failed.
        effects.push(Effect::Paused { name: name.clone(), paused });
        Ok(Outcome::Done)
    }
}
