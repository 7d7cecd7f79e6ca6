//! One record under a lease.

use std::ops::Deref;

use crate::Message;

/// One record under a lease: to be settled by its [`Worker`](crate::Worker) or [`Settler`](crate::Settler) before the
/// lease ends, or it is delivered again. Reads as a [`Message`].
#[derive(Debug, Clone)]
pub struct Leased {
    pub(super) message: Message,
    pub(super) lease: u64,
    /// Of the stream that it came by.
    pub(super) epoch: u64,
    /// Index in its batch of the first record of its offset, and its own.
    pub(super) first: usize,
    pub(super) index: usize,
    /// Whether all that modules made of the record came with it.
    pub(super) complete: bool,
    pub(super) deliveries: u32,
    pub(super) failures: u32,
}

impl Leased {
    /// How often the record was delivered, this time included. Rises whenever it is.
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// How often that failed: by a nack, the end of a lease, or a consumer that broke off.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

impl Deref for Leased {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}
