//! The shard's modules: stored, deleted, and kept for as long as somebody binds them.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use millstream_store::{Batch, Module, ModuleBlob};
use millstream_types::{ModuleName, SubscriptionName, Timestamp};

use super::{Effect, Shard, limit};
use crate::{
    Error,
    bindings::{Bindings, PinnedBinding},
    command::Outcome,
    limits::{BINDERS_TOLD_MAX, DELETED_MODULES_MAX, UNBOUND_MODULES_MAX},
    registry::STOCK_NAMESPACE,
    rows::{self, ModuleRow},
};

/// What there is of modules.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    pub(crate) named: BTreeMap<ModuleName, ModuleRow>,
    /// Names that are gone: each may come back with the bytes that it had.
    pub(crate) deleted: BTreeMap<ModuleName, ModuleRow>,
    /// Whose bytes are in the store.
    pub(crate) stored: BTreeSet<[u8; 32]>,
    /// Those that come with the broker.
    pub(crate) stock: BTreeSet<[u8; 32]>,
    /// What ephemeral subscriptions bind; gone with the process, as they are.
    pub(crate) held: BTreeMap<SubscriptionName, Vec<PinnedBinding>>,
    /// What was stored without a name and is to be bound, once for each time it was: so that it does not go with somebody
    /// else who bound the same.
    pub(crate) unbound: VecDeque<[u8; 32]>,
}

impl Modules {
    /// Somebody has these now.
    pub(super) fn note_bound(&mut self, pipeline: &[PinnedBinding]) {
        for binding in pipeline {
            if let Some(index) = self.unbound.iter().position(|sha256| *sha256 == binding.sha256) {
                self.unbound.remove(index);
            }
        }
    }
}

impl Shard {
    pub(super) fn put_module(
        &mut self,
        name: Option<ModuleName>,
        row: ModuleRow,
        wasm: bytes::Bytes,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let sha256 = row.sha256;
        if let Some(name) = name {
            match (self.modules.named.get(&name), self.modules.deleted.get(&name)) {
                (Some(found), _) if found.sha256 == sha256 => return Ok(Outcome::Done),
                (Some(_), _) => return Err(Error::ModuleExists(name)),
                (None, Some(gone)) if gone.sha256 != sha256 => {
                    return Err(Error::ModuleDeleted { name, sha256: hex::encode(gone.sha256) });
                }
                (None, _) => {}
            }
            limit("modules", self.modules.named.len(), self.limits.modules_max)?;
            batch.put(&Module(name.clone()), rows::encode(&row));
            self.modules.deleted.remove(&name);
            self.modules.named.insert(name.clone(), row.clone());
            effects.push(Effect::ModuleStored { name, row });
        } else {
            self.modules.unbound.push_back(sha256);
        }
        batch.put(&ModuleBlob(sha256), wasm);
        self.modules.stored.insert(sha256);
        if self.modules.unbound.len() > UNBOUND_MODULES_MAX
            && let Some(oldest) = self.modules.unbound.pop_front()
        {
            self.drop_unneeded(&oldest, batch);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn delete_module(
        &mut self,
        name: &ModuleName,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        if !self.modules.named.contains_key(name) {
            return Err(Error::UnknownModule(name.to_string()));
        }
        let binders: BTreeSet<_> = self
            .bound()
            .filter(|(_, binding)| binding.module == name.as_str())
            .map(|(binder, _)| binder)
            .collect();
        let topics: Vec<_> = self
            .topics
            .iter()
            .filter(|(_, row)| row.ingest.pipeline.iter().any(|binding| binding.module == name.as_str()))
            .map(|(topic, _)| topic)
            .collect();
        if !binders.is_empty() || !topics.is_empty() {
            return Err(Error::ModuleBound {
                name: name.clone(),
                count: binders.len(),
                told: binders.iter().take(BINDERS_TOLD_MAX).copied().cloned().collect(),
                topic_count: topics.len(),
                topics: topics.into_iter().take(BINDERS_TOLD_MAX).cloned().collect(),
            });
        }
        let Some(row) = self.modules.named.remove(name) else { return Ok(Outcome::Done) };
        if self.modules.deleted.len() >= DELETED_MODULES_MAX {
            let oldest = self.modules.deleted.iter().min_by_key(|(_, row)| row.deleted_ms);
            if let Some(oldest) = oldest.map(|(oldest, _)| oldest.clone()) {
                self.modules.deleted.remove(&oldest);
                batch.remove(&Module(oldest));
            }
        }
        let gone = ModuleRow { deleted_ms: Some(now), manifest: None, ..row };
        batch.put(&Module(name.clone()), rows::encode(&gone));
        self.drop_unneeded(&gone.sha256, batch);
        self.modules.deleted.insert(name.clone(), gone);
        effects.push(Effect::ModuleDeleted { name: name.clone() });
        Ok(Outcome::Done)
    }

    /// An ephemeral subscription binds these from now on.
    pub(super) fn hold_modules(
        &mut self,
        holder: SubscriptionName,
        pipeline: Vec<PinnedBinding>,
    ) -> Result<Outcome, Error> {
        self.check_modules(&pipeline)?;
        self.modules.note_bound(&pipeline);
        self.modules.held.insert(holder, pipeline);
        Ok(Outcome::Done)
    }

    pub(super) fn release_modules(&mut self, holder: &SubscriptionName, batch: &mut Batch) -> Outcome {
        for binding in self.modules.held.remove(holder).unwrap_or_default() {
            self.drop_unneeded(&binding.sha256, batch);
        }
        Outcome::Done
    }

    /// Refuses to bind again what was deleted with all its bytes.
    pub(super) fn check_bytes(&self, pipeline: &[PinnedBinding]) -> Result<(), Error> {
        match pipeline.iter().find(|binding| !self.has_bytes(binding)) {
            Some(gone) => Err(Error::UnknownModule(gone.module.clone())),
            None => Ok(()),
        }
    }

    fn has_bytes(&self, binding: &PinnedBinding) -> bool {
        self.modules.stock.contains(&binding.sha256) || self.modules.stored.contains(&binding.sha256)
    }

    /// Refuses to bind what was deleted since it was looked up.
    pub(super) fn check_modules(&self, pipeline: &[PinnedBinding]) -> Result<(), Error> {
        let there = |binding: &&PinnedBinding| {
            // A name may be gone while others need its bytes. What is bound by its digest has none.
            let name = ModuleName::new(binding.module.as_str()).ok();
            let name = name.filter(|name| !name.as_str().starts_with(STOCK_NAMESPACE));
            self.has_bytes(binding) && name.is_none_or(|name| self.modules.named.contains_key(&name))
        };
        match pipeline.iter().find(|binding| !there(binding)) {
            Some(gone) => Err(Error::UnknownModule(gone.module.clone())),
            None => Ok(()),
        }
    }

    /// Removes the bytes of a module that has no name and that nothing binds.
    pub(super) fn drop_unneeded(&mut self, sha256: &[u8; 32], batch: &mut Batch) {
        let named = self.modules.named.values().any(|row| row.sha256 == *sha256);
        if !named && self.modules.stored.contains(sha256) && !self.needed().any(|needed| needed == sha256) {
            self.modules.stored.remove(sha256);
            batch.remove(&ModuleBlob(*sha256));
        }
    }

    /// The same for all that a subscription had bound.
    pub(super) fn drop_unneeded_of(&mut self, bindings: &Bindings, batch: &mut Batch) {
        bindings.needs().for_each(|sha256| self.drop_unneeded(sha256, batch));
    }

    /// Everything that is bound now, and by whom.
    fn bound(&self) -> impl Iterator<Item = (&SubscriptionName, &PinnedBinding)> {
        let rows = self.subscriptions.values().map(|state| &state.row);
        let durable = rows.flat_map(|row| row.bindings.bound().map(|binding| (&row.name, binding)));
        let held = self.modules.held.iter();
        durable
            .chain(held.flat_map(|(holder, pipeline)| pipeline.iter().map(move |binding| (holder, binding))))
    }

    /// The digests of what is bound, or was and could be again: whoever comes to bind modules belongs in here.
    fn needed(&self) -> impl Iterator<Item = &[u8; 32]> {
        let durable = self.subscriptions.values().flat_map(|state| state.row.bindings.needs());
        let ingests = self.topics.values().flat_map(|row| &row.ingest.pipeline);
        let durable = durable.chain(ingests.map(|binding| &binding.sha256));
        let durable = durable.chain(&self.modules.unbound);
        durable.chain(self.modules.held.values().flatten().map(|binding| &binding.sha256))
    }

    /// Removes what was uploaded without a name and bound by nothing that is still there. At start: its users upload it
    /// again.
    pub(crate) fn drop_orphans(&mut self, batch: &mut Batch) {
        let named = self.modules.named.values().map(|row| row.sha256);
        let needed: HashSet<_> = named.chain(self.needed().copied()).collect();
        self.modules.stored.retain(|sha256| {
            let needed = needed.contains(sha256);
            if !needed {
                batch.remove(&ModuleBlob(*sha256));
            }
            needed
        });
    }
}
