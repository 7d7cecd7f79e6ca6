//! Which partition of which topic records are of.

use std::{cmp::Ordering, collections::HashMap, fmt, sync::Arc};

use millstream_types::{TopicName, TopicPartition, TopicPattern};

use crate::CallError;

/// A partition of a topic that is read. Cheap to clone; ordered as the broker numbers partitions.
#[derive(Debug, Clone)]
pub struct Place(Arc<Numbered>);

#[derive(Debug)]
struct Numbered {
    /// What the broker calls it on this stream.
    number: u32,
    of: TopicPartition,
}

impl Place {
    pub(crate) fn new(number: u32, of: TopicPartition) -> Self {
        Self(Arc::new(Numbered { number, of }))
    }

    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.0.of.topic
    }

    /// Partition within the topic.
    pub fn partition(&self) -> u32 {
        self.0.of.partition
    }

    pub(crate) fn number(&self) -> u32 {
        self.0.number
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of topic {}", self.partition(), self.topic())
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

/// The places that a stream brought so far.
#[derive(Debug)]
pub(crate) struct Places {
    /// Where there is but one.
    topic: Option<TopicName>,
    known: HashMap<u32, Place>,
}

impl Places {
    pub(crate) fn of(pattern: &TopicPattern) -> Self {
        Self { topic: pattern.as_topic(), known: HashMap::new() }
    }

    /// What the broker calls `number`, and says to be `of` there.
    ///
    /// # Errors
    /// [`CallError::Protocol`] where it does not say so, but should.
    pub(crate) fn place(&mut self, number: u32, of: Option<TopicPartition>) -> Result<Place, CallError> {
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let one = || Some(TopicPartition { topic: self.topic.clone()?, partition: number });
        let Some(of) = of.or_else(one) else {
            let text = format!("records came for partition number {number}, and not of which topic it is");
            return Err(CallError::Protocol(text));
        };
        let place = Place::new(number, of);
        self.known.insert(number, place.clone());
        Ok(place)
    }
}
