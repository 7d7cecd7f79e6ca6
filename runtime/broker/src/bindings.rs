//! What judges a subscription's records, now and before: stored with it, changed by one command.

use millstream_types::{Binding, OnFault, Timestamp};
use serde::{Deserialize, Serialize};

use crate::limits::EARLIER_REVISIONS_MAX;

/// A binding whose module was resolved: later versions do not change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedBinding {
    pub(crate) module: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) config: String,
}

/// What judges a subscription's records from one binding to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    pub(crate) number: u64,
    pub(crate) pipeline: Vec<PinnedBinding>,
    pub(crate) on_fault: OnFault,
    pub(crate) bound_ms: Timestamp,
}

/// See the module's head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bindings {
    pub(crate) current: Revision,
    /// What was bound before, oldest first.
    pub(crate) earlier: Vec<Revision>,
    /// What runs beside it, to be compared.
    pub(crate) shadow: Option<Vec<PinnedBinding>>,
}

impl Bindings {
    /// The first of a new subscription.
    pub(crate) fn new(pipeline: Vec<PinnedBinding>, on_fault: OnFault, now: Timestamp) -> Self {
        let current = Revision { number: 1, pipeline, on_fault, bound_ms: now };
        Self { current, ..Self::default() }
    }

    /// Has `pipeline` take over; whether that is anything new.
    pub(crate) fn take_over(
        &mut self,
        pipeline: Vec<PinnedBinding>,
        on_fault: OnFault,
        now: Timestamp,
    ) -> bool {
        if self.shadow.as_ref() == Some(&pipeline) {
            // There is nothing to compare any more.
            self.shadow = None;
        } else if self.current.pipeline == pipeline && self.current.on_fault == on_fault {
            return false;
        }
        let next = Revision { number: self.current.number + 1, pipeline, on_fault, bound_ms: now };
        self.earlier.push(std::mem::replace(&mut self.current, next));
        let too_many = self.earlier.len().saturating_sub(EARLIER_REVISIONS_MAX);
        self.earlier.drain(..too_many);
        true
    }

    /// Whether this pipeline and policy are bound, or were.
    pub(crate) fn had(&self, wanted: &Revision) -> bool {
        let mut all = self.earlier.iter().chain([&self.current]);
        all.any(|revision| (&revision.pipeline, revision.on_fault) == (&wanted.pipeline, wanted.on_fault))
    }

    /// What was bound as revision `to`, or last with other modules; where there never were others, before this one.
    pub(crate) fn back(&self, to: Option<u64>) -> Option<&Revision> {
        match to {
            Some(to) => self.earlier.iter().find(|revision| revision.number == to),
            None => {
                let mut others = self.earlier.iter().rev().filter(|it| it.pipeline != self.current.pipeline);
                others.next().or(self.earlier.last())
            }
        }
    }

    /// What is bound now, to judge or to be compared.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &PinnedBinding> {
        self.current.pipeline.iter().chain(self.shadow.iter().flatten())
    }

    /// The digests of all modules that are needed, some of them several times: also for going back.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &[u8; 32]> {
        let revisions = self.earlier.iter().chain([&self.current]).flat_map(|revision| &revision.pipeline);
        revisions.chain(self.shadow.iter().flatten()).map(|binding| &binding.sha256)
    }
}

impl PinnedBinding {
    pub(crate) fn to_binding(&self) -> Binding {
        Binding { module: self.module.clone(), config: self.config.clone() }
    }
}

impl Revision {
    pub(crate) fn to_public(&self) -> millstream_types::Revision {
        millstream_types::Revision {
            number: self.number,
            modules: self.pipeline.iter().map(|binding| binding.module.clone()).collect(),
            on_fault: self.on_fault,
            bound_ms: self.bound_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(module: u8) -> Vec<PinnedBinding> {
        vec![PinnedBinding { module: format!("m@{module}"), sha256: [module; 32], config: "{}".into() }]
    }

    #[test]
    fn going_back_is_a_revision_of_its_own() {
        let mut bindings = Bindings::new(pipeline(1), OnFault::Halt, 5);
        assert!(!bindings.take_over(pipeline(1), OnFault::Halt, 6), "it is the same");
        assert!(bindings.take_over(pipeline(2), OnFault::Halt, 7));
        assert!(bindings.take_over(pipeline(2), OnFault::Skip, 8), "another policy");
        let back = bindings.back(Some(1)).cloned().unwrap();
        assert!(bindings.take_over(back.pipeline, back.on_fault, 9));
        assert_eq!((bindings.current.number, bindings.current.pipeline.clone()), (4, pipeline(1)));
        assert_eq!(bindings.back(None).map(|revision| revision.number), Some(3));
        bindings.take_over(pipeline(1), OnFault::Skip, 10);
        assert_eq!(bindings.back(None).map(|revision| revision.number), Some(3), "not to the policy alone");
        assert_eq!(bindings.back(Some(5)), None);
    }

    #[test]
    fn what_was_bound_long_ago_is_forgotten() {
        let mut bindings = Bindings::new(pipeline(0), OnFault::Skip, 0);
        for module in 1..=u8::try_from(EARLIER_REVISIONS_MAX).unwrap() + 1 {
            assert!(bindings.take_over(pipeline(module), OnFault::Skip, 0));
        }
        assert_eq!(bindings.earlier.len(), EARLIER_REVISIONS_MAX);
        assert_eq!(
            (bindings.back(Some(1)), bindings.needs().any(|sha256| *sha256 == [0; 32])),
            (None, false)
        );
        assert!(bindings.needs().any(|sha256| *sha256 == [1; 32]));
    }

    #[test]
    fn a_shadow_that_takes_over_is_none_any_more() {
        let mut bindings = Bindings::new(pipeline(1), OnFault::Halt, 0);
        bindings.shadow = Some(pipeline(2));
        assert!(bindings.needs().any(|sha256| *sha256 == [2; 32]));
        assert!(bindings.take_over(pipeline(3), OnFault::Halt, 0));
        assert_eq!(bindings.shadow, Some(pipeline(2)));
        assert!(bindings.take_over(pipeline(2), OnFault::Halt, 0));
        assert_eq!(bindings.shadow, None);
    }
}
