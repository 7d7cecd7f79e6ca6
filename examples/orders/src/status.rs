//! Status updates: what the services say of an order.

use millstream_client::{Message, Record};
use serde::{Deserialize, Serialize};

use crate::{Error, order::Order};

/// Header of updates that are for those who ship.
pub(crate) const LOGISTICS: &str = "logistics";
/// Its value for couriers.
pub(crate) const EXPRESS: &str = "express";
/// Its value for the post.
const STANDARD: &str = "standard";

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Stock has put its pieces aside.
    Reserved,
    /// Stock has not enough of it.
    SoldOut,
    /// Payment has the money.
    Paid,
    /// The bank said no.
    Declined,
    /// The desk: an express order that logistics may fetch.
    Ready,
    /// Stock has put the pieces back.
    Released,
    /// Payment has given the money back.
    Refunded,
    /// Final: logistics has sent it.
    Shipped,
    /// Final: the desk has given it to the post.
    Posted,
    /// Final: nothing was sent, and nothing is kept.
    Cancelled,
}

/// A status of an order, with all that its readers need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    pub(crate) status: Status,
    pub(crate) order: Order,
}

impl Status {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Shipped | Self::Posted | Self::Cancelled)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::SoldOut => "sold-out",
            Self::Paid => "paid",
            Self::Declined => "declined",
            Self::Ready => "ready",
            Self::Released => "released",
            Self::Refunded => "refunded",
            Self::Shipped => "shipped",
            Self::Posted => "posted",
            Self::Cancelled => "cancelled",
        }
    }

    /// Who is to fetch the order now.
    fn logistics(self) -> Option<&'static str> {
        match self {
            Self::Ready => Some(EXPRESS),
            Self::Posted => Some(STANDARD),
            _ => None,
        }
    }
}

impl Update {
    /// As published. The key is the order: its updates are on one partition, and in order.
    pub(crate) fn record(&self) -> Result<Record, Error> {
        let record = Record::new(serde_json::to_vec(self)?)
            .with_key(self.order.id.to_string())
            .with_header("status", self.status.as_str());
        Ok(match self.status.logistics() {
            Some(who) => record.with_header(LOGISTICS, who),
            None => record,
        })
    }

    /// As read.
    pub(crate) fn read(message: &Message) -> Result<Self, Error> {
        Ok(serde_json::from_slice(message.payload().unwrap_or_default())?)
    }
}
