//! Whose modules run: the keys that an operator trusts.

use crate::signature::{self, PublicKey, SignatureError};

/// Whose modules run.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Who is trusted.
    pub keys: Vec<PublicKey>,
    /// Whether a module must be signed by one of them.
    pub required: bool,
}

/// Why a module is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Nobody vouches for it.
    #[error(
        "it is not signed, and this broker runs signed modules alone: sign it with `millstream module sign`"
    )]
    Unsigned,
    /// Only others vouch for it.
    #[error(
        "it is signed by {}, and this broker trusts none of those keys: have it signed by one whose key is among \
         modules.trusted_keys, or that key added there", .0.join(", ")
    )]
    Unknown(Vec<String>),
    /// A signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Trust {
    /// Who signed `wasm`, if it may run here. A signature that does not hold is always refused.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn check(&self, wasm: &[u8]) -> Result<Vec<PublicKey>, TrustError> {
        let signers = signature::signers(wasm)?;
        if self.required && !signers.iter().any(|signer| self.trusts(signer)) {
            let ids = signers.iter().map(PublicKey::id).collect::<Vec<_>>();
            return Err(if ids.is_empty() { TrustError::Unsigned } else { TrustError::Unknown(ids) });
        }
        Ok(signers)
    }

    /// Whether `key` is among those trusted.
    pub fn trusts(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }
}
