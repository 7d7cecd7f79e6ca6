//! Orders: made up, the same ones in each run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::article::{ARTICLES, Article};

/// Number of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct OrderId(u32);

/// What a customer orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    pub(crate) article: Article,
    pub(crate) pieces: u32,
    pub(crate) cents: u64,
    /// Sent by courier, by logistics; what is not express goes by post.
    pub(crate) express: bool,
}

impl Order {
    /// The orders 0 to `count`.
    pub(crate) fn numbered(count: u32) -> impl Iterator<Item = Self> {
        (0..count).map(OrderId).map(|id| {
            let pieces = 1 + id.chance("pieces", 3);
            Self {
                id,
                article: Article(id.chance("article", ARTICLES)),
                pieces,
                cents: u64::from(pieces) * (500 + u64::from(id.chance("price", 9_500))),
                express: id.chance("express", 100) < 30,
            }
        })
    }
}

impl OrderId {
    /// A number below `below` that is always the same for this order and `what`, and looks like chance.
    pub(crate) fn chance(self, what: &str, below: u32) -> u32 {
        // FNV-1a, and the last mixing of MurmurHash3, since neighbours must differ in all bits.
        let bytes = what.bytes().chain(self.0.to_le_bytes());
        let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        u32::try_from((hash ^ (hash >> 33)) % u64::from(below.max(1))).unwrap_or_default()
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order-{:06}", self.0)
    }
}
