//! What differs between the attributes.

/// The attribute that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Filter,
    Map,
    FlatMap,
    Route,
    Processor,
}

impl Kind {
    /// As users write it.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Map => "map",
            Self::FlatMap => "flat_map",
            Self::Route => "route",
            Self::Processor => "processor",
        }
    }

    /// The SDK's trait for what the function returns.
    pub(crate) fn answer_trait(self) -> &'static str {
        match self {
            Self::Filter => "FilterAnswer",
            Self::Map => "MapAnswer",
            Self::FlatMap => "FlatMapAnswer",
            Self::Route => "RouteAnswer",
            Self::Processor => "ProcessorAnswer",
        }
    }

    /// What a function of this kind returns, for an error message.
    pub(crate) fn returns(self) -> &'static str {
        match self {
            Self::Filter => "bool",
            Self::Map => "Option<Output>",
            Self::FlatMap => "Vec<Output>",
            Self::Route => "Option<String>",
            Self::Processor => "Vec<Output>",
        }
    }

    /// The parameters of such a function before its configuration.
    pub(crate) fn params(self) -> &'static str {
        match self {
            Self::Processor => "record: &Record, state: &mut State",
            _ => "record: &Record",
        }
    }

    /// Whether it can send records to topics.
    pub(crate) fn emits(self) -> bool {
        self != Self::Filter
    }
}
