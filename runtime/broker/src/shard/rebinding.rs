//! The shard's subscriptions: other modules take over, or run beside.

use millstream_store::{Batch, Subscription};
use millstream_types::{OnFault, SubscriptionName, Timestamp};

use super::{Effect, Shard};
use crate::{
    Error,
    bindings::{Bindings, PinnedBinding},
    command::Outcome,
    rows,
};

impl Shard {
    /// Has `pipeline` take over from revision `expected`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one command, passed on once")]
    pub(super) fn rebind(
        &mut self,
        name: &SubscriptionName,
        expected: u64,
        pipeline: Vec<PinnedBinding>,
        on_fault: OnFault,
        now: Timestamp,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let bindings = self.bindings(name)?;
        if bindings.current.number != expected {
            return Err(Error::Overtaken);
        }
        // What was bound before may be bound again also where its name was deleted: its bytes are kept for that.
        let all = bindings.earlier.iter().chain([&bindings.current]);
        let known = all.map(|revision| &revision.pipeline).any(|known| *known == pipeline);
        match known {
            true => self.check_bytes(&pipeline)?,
            false => self.check_modules(&pipeline)?,
        }
        let change = |bindings: &mut Bindings| bindings.take_over(pipeline, on_fault, now);
        self.change_bindings(name, batch, effects, change)
    }

    /// Has `pipeline` run beside what judges the subscription's records; none ends that.
    pub(super) fn set_shadow(
        &mut self,
        name: &SubscriptionName,
        pipeline: Option<Vec<PinnedBinding>>,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        self.check_modules(pipeline.as_deref().unwrap_or_default())?;
        self.change_bindings(name, batch, effects, |bindings| {
            let changes = bindings.shadow != pipeline;
            bindings.shadow = pipeline;
            changes
        })
    }

    fn bindings(&self, name: &SubscriptionName) -> Result<&Bindings, Error> {
        let found = self.subscriptions.values().find(|state| state.row.name == *name);
        Ok(&found.ok_or_else(|| Error::UnknownSubscription(name.clone()))?.row.bindings)
    }

    fn change_bindings(
        &mut self,
        name: &SubscriptionName,
        batch: &mut Batch,
        effects: &mut Vec<Effect>,
        change: impl FnOnce(&mut Bindings) -> bool,
    ) -> Result<Outcome, Error> {
        let found = self.subscriptions.iter_mut().find(|(_, state)| state.row.name == *name);
        let (id, state) = found.ok_or_else(|| Error::UnknownSubscription(name.clone()))?;
        let before = state.row.bindings.clone();
        if !change(&mut state.row.bindings) {
            return Ok(Outcome::Done);
        }
        let bindings = &state.row.bindings;
        self.modules.note_bound(&bindings.current.pipeline);
        self.modules.note_bound(bindings.shadow.as_deref().unwrap_or_default());
        batch.put(&Subscription(*id), rows::encode(&state.row));
        effects.push(Effect::Rebound { name: name.clone(), bindings: Box::new(state.row.bindings.clone()) });
        self.drop_unneeded_of(&before, batch);
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use millstream_store::{ModuleBlob, Options, Persist, Store};
    use millstream_types::{DeliveryConfig, ModuleName, TopicConfig};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Limits,
        command::Command,
        recover::recover,
        rows::{ModuleRow, SubscriptionRow},
    };

    #[derive(Debug, Clone)]
    enum Act {
        /// A module by name, or private.
        Put {
            content: u8,
            named: bool,
        },
        Subscribe {
            name: u8,
            content: u8,
        },
        Rebind {
            name: u8,
            content: u8,
            skip: bool,
            stale: bool,
        },
        Back {
            name: u8,
            by: u64,
        },
        Shadow {
            name: u8,
            content: Option<u8>,
        },
        Unsubscribe {
            name: u8,
        },
        Restart,
    }

    fn act() -> impl Strategy<Value = Act> {
        let content = || 0..6u8;
        prop_oneof![
            2 => (content(), any::<bool>()).prop_map(|(content, named)| Act::Put { content, named }),
            2 => (0..2u8, content()).prop_map(|(name, content)| Act::Subscribe { name, content }),
            6 => (0..2u8, content(), any::<bool>(), proptest::bool::weighted(0.2))
                .prop_map(|(name, content, skip, stale)| Act::Rebind { name, content, skip, stale }),
            2 => (0..2u8, 0..4u64).prop_map(|(name, by)| Act::Back { name, by }),
            3 => (0..2u8, prop::option::of(content())).prop_map(|(name, content)| Act::Shadow { name, content }),
            1 => (0..2u8).prop_map(|name| Act::Unsubscribe { name }),
            1 => Just(Act::Restart),
        ]
    }

    /// What is bound, oldest first and the current last, as content and policy; its number; the shadow.
    type Bound = (Vec<(u8, bool)>, u64, Option<u8>);

    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Model {
        subscriptions: BTreeMap<u8, Bound>,
        named: BTreeSet<u8>,
    }

    impl Model {
        fn needs(&self, content: u8) -> bool {
            let bound = |(bound, _, shadow): &Bound| {
                bound.iter().any(|(it, _)| *it == content) || *shadow == Some(content)
            };
            self.named.contains(&content) || self.subscriptions.values().any(bound)
        }

        fn bind(&mut self, name: u8, to: (u8, bool)) {
            let Some((bound, number, shadow)) = self.subscriptions.get_mut(&name) else { return };
            let was_shadow = *shadow == Some(to.0);
            if !was_shadow && bound.last() == Some(&to) {
                return;
            }
            if was_shadow {
                *shadow = None;
            }
            bound.push(to);
            *number += 1;
            let too_many = bound.len().saturating_sub(crate::limits::EARLIER_REVISIONS_MAX + 1);
            bound.drain(..too_many);
        }
    }

    fn pipeline(content: u8) -> Vec<PinnedBinding> {
        let sha256 = [content; 32];
        vec![PinnedBinding { module: format!("sha256:{}", hex::encode(sha256)), sha256, config: "{}".into() }]
    }

    fn policy(skip: bool) -> OnFault {
        if skip { OnFault::Skip } else { OnFault::Halt }
    }

    fn name_of(name: u8) -> SubscriptionName {
        format!("s{name}").parse().unwrap()
    }

    fn agree(shard: &Shard, store: &Store, model: &Model) {
        assert_eq!(shard.subscriptions.len(), model.subscriptions.len());
        for (name, (bound, number, shadow)) in &model.subscriptions {
            let state = shard.subscriptions.values().find(|state| state.row.name == name_of(*name)).unwrap();
            let bindings = &state.row.bindings;
            let found: Vec<_> = bindings.earlier.iter().chain([&bindings.current]).collect();
            let wanted: Vec<_> =
                bound.iter().map(|(content, skip)| (pipeline(*content), policy(*skip))).collect();
            assert_eq!(found.iter().map(|it| (it.pipeline.clone(), it.on_fault)).collect::<Vec<_>>(), wanted);
            assert_eq!((bindings.current.number, &bindings.shadow), (*number, &shadow.map(pipeline)));
        }
        for content in 0..6u8 {
            let stored = store.get(&ModuleBlob([content; 32])).unwrap().is_some();
            // One that is private and was bound by nobody yet may be there.
            assert!(stored || !model.needs(content), "module {content} is gone");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]
        /// Modules take over, go back and run beside as the model says, over restarts; and none that is needed is removed.
        #[test]
        fn agrees_with_the_model(acts in prop::collection::vec(act(), 5..60)) {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(dir.path(), &Options::default()).unwrap();
            let (mut shard, mut model) = (recover(&store, Limits::default()).unwrap(), Model::default());
            let topic: millstream_types::TopicName = "t".parse().unwrap();
            let create = Command::CreateTopic { name: topic.clone(), config: TopicConfig::default(), now: 1 };
            let mut create = Some(create);
            for act in std::iter::once(None).chain(acts.iter().map(Some)) {
                let (command, accepted) = match act {
                    None => (create.take().unwrap(), true),
                    Some(Act::Put { content, named }) => {
                        let name = named.then(|| ModuleName::new(format!("m@{content}")).unwrap());
                        if *named {
                            model.named.insert(*content);
                        }
                        (Command::PutModule { name, row: Box::new(row(*content)), wasm: vec![*content].into() }, true)
                    }
                    Some(Act::Subscribe { name, content }) => {
                        put(&mut shard, &store, *content);
                        let row = SubscriptionRow {
                processor: None,
                            name: name_of(*name),
                            topic: topic.clone().into(),
                            bindings: Bindings::new(pipeline(*content), OnFault::Halt, 1),
                            delivery: DeliveryConfig::default(),
                            created_ms: 1,
                        };
                        let first = (vec![(*content, false)], 1, None);
                        let found = model.subscriptions.entry(*name).or_insert(first);
                        // Also with what was bound before.
                        let accepted = found.0.contains(&(*content, false));
                        (Command::CreateSubscription { row: Box::new(row), cursors: Vec::new() }, accepted)
                    }
                    Some(Act::Rebind { name, content, skip, stale }) => {
                        put(&mut shard, &store, *content);
                        let number = model.subscriptions.get(name).map_or(1, |(_, number, _)| *number);
                        let accepted = model.subscriptions.contains_key(name) && !stale;
                        if accepted {
                            model.bind(*name, (*content, *skip));
                        }
                        let command = Command::Rebind {
                            name: name_of(*name),
                            expected: number + u64::from(*stale),
                            pipeline: pipeline(*content),
                            on_fault: policy(*skip),
                            now: 2,
                        };
                        (command, accepted)
                    }
                    Some(Act::Back { name, by }) => {
                        let found = shard.subscriptions.values().find(|state| state.row.name == name_of(*name));
                        let Some(bindings) = found.map(|state| &state.row.bindings) else { continue };
                        let expected = bindings.current.number;
                        let Some(back) = bindings.back((*by > 0).then(|| expected.saturating_sub(*by))) else { continue };
                        let (pipeline, on_fault) = (back.pipeline.clone(), back.on_fault);
                        let content = pipeline.first().map_or(0, |binding| binding.sha256[0]);
                        model.bind(*name, (content, on_fault == OnFault::Skip));
                        let name = name_of(*name);
                        (Command::Rebind { name, expected, pipeline, on_fault, now: 2 }, true)
                    }
                    Some(Act::Shadow { name, content }) => {
                        content.iter().for_each(|content| put(&mut shard, &store, *content));
                        let found = model.subscriptions.get_mut(name);
                        let accepted = found.is_some();
                        found.into_iter().for_each(|(.., shadow)| *shadow = *content);
                        (Command::SetShadow { name: name_of(*name), pipeline: content.map(pipeline) }, accepted)
                    }
                    Some(Act::Unsubscribe { name }) => {
                        let accepted = model.subscriptions.remove(name).is_some();
                        (Command::DeleteSubscription { name: name_of(*name) }, accepted)
                    }
                    Some(Act::Restart) => {
                        shard = recover(&store, Limits::default()).unwrap();
                        agree(&shard, &store, &model);
                        continue;
                    }
                };
                let (mut batch, mut effects) = (Batch::default(), Vec::new());
                let applied = shard.apply(command, &mut batch, &mut effects);
                prop_assert_eq!(applied.result.is_ok(), accepted, "{:?} gave {:?}", act, applied.result);
                prop_assert!(accepted || (batch.is_empty() && effects.is_empty()));
                store.commit(batch, Persist::Buffer).unwrap();
                agree(&shard, &store, &model);
            }
        }
    }

    /// A module must be there before it is bound.
    fn put(shard: &mut Shard, store: &Store, content: u8) {
        let (mut batch, mut effects) = (Batch::default(), Vec::new());
        shard
            .apply(
                Command::PutModule { name: None, row: Box::new(row(content)), wasm: vec![content].into() },
                &mut batch,
                &mut effects,
            )
            .result
            .unwrap();
        store.commit(batch, Persist::Buffer).unwrap();
    }

    fn row(content: u8) -> ModuleRow {
        ModuleRow {
            sha256: [content; 32],
            bytes: 1,
            stored_ms: 1,
            manifest: None,
            typed: None,
            capabilities: Vec::new(),
            signers: Vec::new(),
            deleted_ms: None,
        }
    }
}
