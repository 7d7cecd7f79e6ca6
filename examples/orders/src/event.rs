//! Events of an order: what the shop says to stock and payment.

use millstream_client::{Message, Record};
use serde::{Deserialize, Serialize};

use crate::{Error, order::Order};

/// What happened to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A customer placed it.
    #[serde(rename = "order-created")]
    Created,
    /// It cannot be fulfilled: what was done for it is to be undone.
    #[serde(rename = "order-cancelled")]
    Cancelled,
}

/// An event, with all that its readers need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) order: Order,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "order-created",
            Self::Cancelled => "order-cancelled",
        }
    }
}

impl Event {
    /// As published. The key is the order: its events are on one partition, and in order.
    pub(crate) fn record(&self) -> Result<Record, Error> {
        Ok(Record::new(serde_json::to_vec(self)?)
            .with_key(self.order.id.to_string())
            .with_header("event", self.kind.as_str()))
    }

    /// As read.
    pub(crate) fn read(message: &Message) -> Result<Self, Error> {
        Ok(serde_json::from_slice(message.payload().unwrap_or_default())?)
    }
}
