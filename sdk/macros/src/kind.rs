//! What differs between the attributes.

/// The attribute that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Filter,
    Map,
    FlatMap,
    Route,
}

impl Kind {
    /// As users write it.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Map => "map",
            Self::FlatMap => "flat_map",
            Self::Route => "route",
        }
    }

    /// The SDK's trait for what the function returns.
    pub(crate) fn answer_trait(self) -> &'static str {
        match self {
            Self::Filter => "FilterAnswer",
            Self::Map => "MapAnswer",
            Self::FlatMap => "FlatMapAnswer",
            Self::Route => "RouteAnswer",
        }
    }

    /// What a function of this kind returns, for an error message.
    pub(crate) fn returns(self) -> &'static str {
        match self {
            Self::Filter => "bool",
            Self::Map => "Option<Output>",
            Self::FlatMap => "Vec<Output>",
            Self::Route => "Option<String>",
        }
    }

    /// Whether it can send records to topics.
    pub(crate) fn emits(self) -> bool {
        self != Self::Filter
    }
}
