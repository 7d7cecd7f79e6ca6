//! One delivered record.

use bytes::Bytes;
use millstream_types::{Offset, Record, RecordBatch, RecordView, Timestamp, TopicName};

use crate::Place;

/// One delivered record. Shares the bytes of its batch: keeping one keeps all of them.
#[derive(Debug, Clone)]
pub struct Message {
    place: Place,
    batch: RecordBatch,
    index: usize,
    ack_next: Offset,
}

impl Message {
    /// Record `index` of `batch`, and what is done once it is acknowledged.
    pub(crate) fn new(place: Place, batch: RecordBatch, index: usize, ack_next: Offset) -> Self {
        Self { place, batch, index, ack_next }
    }

    /// The topic that it was published to.
    pub fn topic(&self) -> &TopicName {
        self.place.topic()
    }

    /// Partition within the topic.
    pub fn partition(&self) -> u32 {
        self.place.partition()
    }

    /// Both.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Position in the partition. Several messages have the same where a module made them of one record.
    pub fn offset(&self) -> Offset {
        self.view().offset
    }

    /// When the broker appended it, ms since the Unix epoch.
    pub fn timestamp(&self) -> Timestamp {
        self.view().timestamp
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.view().key
    }

    /// The value of the first header called `name`.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.view().header(name)
    }

    /// The payload; `None` is a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        self.view().payload
    }

    /// The payload, sharing the batch's bytes.
    pub fn payload_bytes(&self) -> Option<Bytes> {
        self.payload().map(|payload| self.batch.as_bytes().slice_ref(payload))
    }

    /// All of it, read in place.
    pub fn view(&self) -> RecordView<'_> {
        // The batch was checked in full when it came, and the index comes from its length.
        self.batch.view().record(self.index).unwrap_or_default()
    }

    /// All of it, copied out.
    pub fn to_record(&self) -> Record {
        self.view().to_record()
    }

    /// The offset below which everything is done once this message is.
    pub(super) fn ack_next(&self) -> Offset {
        self.ack_next
    }
}
