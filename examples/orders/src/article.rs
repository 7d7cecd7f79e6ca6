//! What the shop sells.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::order::Order;

/// How many articles there are.
pub(crate) const ARTICLES: u32 = 12;
/// Of what is ordered, so much is there; some orders find the shelf empty.
const SHARE_PERCENT: u32 = 96;

/// Number of an article.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Article(pub(crate) u32);

impl fmt::Display for Article {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "article-{:02}", self.0)
    }
}

/// Pieces of each article that are there before the first order.
pub(crate) fn delivery_for(orders: &[Order]) -> BTreeMap<Article, u32> {
    let mut pieces: BTreeMap<Article, u32> = BTreeMap::new();
    for order in orders {
        *pieces.entry(order.article).or_default() += order.pieces;
    }
    pieces.into_iter().map(|(article, ordered)| (article, ordered * SHARE_PERCENT / 100)).collect()
}
