//! What a module's source needs: `use millstream_sdk::prelude::*;`

#[cfg(not(target_arch = "wasm32"))]
pub use crate::test;
pub use crate::{
    Json, ModuleConfig, Output, PayloadError, Record, State, StateError, TopicName, WindowError, Windows,
    filter, flat_map, log, map, metrics, processor, route,
};
pub use serde_json::{Value, json};
