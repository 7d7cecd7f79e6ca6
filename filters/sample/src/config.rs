//! The configuration: which share, and of what.

use millstream_filter_predicate::{By, ConfigError, PointerTree, Source};
use millstream_sdk::SchemaText;
use millstream_sdk::prelude::*;
use twox_hash::XxHash3_64;

/// The share that is kept.
///
/// The configuration as it is written.
#[derive(Debug, ModuleConfig)]
struct Written {
    /// From 0, none, to 1, all.
    rate: f64,
    /// Another one has others kept.
    #[serde(default)]
    salt: String,
    /// What is kept or dropped together: `"key"`, a header or a JSON field.
    #[serde(default)]
    by: By,
}

/// Which share is kept, and what is hashed to choose it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Hashes below are kept; `None`: all.
    below: Option<u64>,
    seed: u64,
    source: Source,
    pointers: PointerTree,
}

impl Config {
    /// Whether a JSON field is hashed.
    pub(crate) fn reads_payload(&self) -> bool {
        !self.pointers.is_empty()
    }

    /// Whether the record falls within the share.
    pub(crate) fn keeps(&self, record: &Record<'_>) -> Result<bool, String> {
        let fields = self.pointers.fields(record)?;
        let found = self.source.found(record, &fields);
        let hash = match found.to_bytes() {
            Some(bytes) => XxHash3_64::oneshot_with_seed(self.seed, &bytes),
            None => {
                // One record has the same wherever and whenever it is read.
                let own = [record.offset().to_le_bytes(), record.timestamp().to_le_bytes()].concat();
                XxHash3_64::oneshot_with_seed(self.seed, &own)
            }
        };
        Ok(self.below.is_none_or(|below| hash < below))
    }
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { rate, salt, by } = Written::from_json(json)?;
        if !(0.0..=1.0).contains(&rate) {
            let fault = format!("{rate} is no share: write a number from 0 (none) to 1 (all), such as 0.01");
            return Err(ConfigError::new("config.rate", fault).into());
        }
        let mut pointers = PointerTree::default();
        let source = by.compile("config.by", &mut pointers)?;
        let seed = XxHash3_64::oneshot(salt.as_bytes());
        Ok(Self { below: below(rate), seed, source, pointers })
    }
}

/// The share of all hashes, as the first that is not in it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the rate is from 0 to below 1")]
fn below(rate: f64) -> Option<u64> {
    (rate < 1.0).then(|| (rate * 2_f64.powi(64)) as u64)
}
