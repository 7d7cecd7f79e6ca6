//! Signatures of components: who vouches for the bytes.
//!
//! Each signer appends one custom section to the component, behind everything else and behind the sections of other
//! signers, in any order. All are of one form and 120 bytes long:
//!
//! | bytes | what |
//! |---|---|
//! | 2 | section id 0, length 118 |
//! | 21 | length 20, `millstream:signature` |
//! | 1 | format of the rest: 1 |
//! | 32 | public key, Ed25519 (RFC 8032) |
//! | 64 | signature of `millstream module signature v1`, a zero byte, and the SHA-256 of the component without these sections |
//!
//! The proposal of WebAssembly/tool-conventions (Signatures.md, wasmsign2) has one section in front that lists all
//! signatures, names keys by an id of the signer's choosing, and signs parts by themselves. Here a signer changes nothing
//! that is there, a signature can be checked without having its key, and the whole component is signed, always.

use std::ops::Range;

use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use crate::{
    limits::SIGNATURES_MAX,
    sections::{self, Format},
};

/// Name of the custom section.
pub const SIGNATURE_SECTION: &str = "millstream:signature";

const DOMAIN: &[u8] = b"millstream module signature v1\0";
const FORMAT: u8 = 1;
const SIGNATURE_BYTES: usize = 64;
const CONTENT_BYTES: usize = 1 + SIGNATURE_SECTION.len() + 1 + ED25519_PUBLIC_KEY_LEN + SIGNATURE_BYTES;

/// What stands in front of the 32 bytes of every public key in DER: SubjectPublicKeyInfo, RFC 8410, section 4.
const PUBLIC_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The same of a private key: PKCS #8 without the public key, section 7. OpenSSL 3.0 reads no other form.
const PRIVATE_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PUBLIC_TAG: &str = "PUBLIC KEY";
const PRIVATE_TAG: &str = "PRIVATE KEY";

/// Why a component's signatures do not hold, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is no component to sign.
    #[error("the file is not a WebAssembly component: build it with `millstream module build`")]
    NotAComponent,
    /// Its sections do not add up.
    #[error("the component is cut off or has bytes behind its last section")]
    Sections,
    /// A section of the signatures' name that is not one.
    #[error(
        "signature {number} of the module is not of the form that this version knows; sign it again, or upgrade"
    )]
    Form {
        /// Counted from 1.
        number: usize,
    },
    /// Something is behind it that it does not cover.
    #[error(
        "signature {number} of the module is not at its end: whoever added something behind it did so unsigned"
    )]
    NotLast {
        /// Counted from 1.
        number: usize,
    },
    /// More than anybody needs.
    #[error("the module has more than {SIGNATURES_MAX} signatures, the most that are looked at")]
    TooMany,
    /// Two of one signer.
    #[error("the module is signed twice by key {0}")]
    Twice(String),
    /// The bytes are not those that were signed.
    #[error(
        "the module's signature by key {0} is broken: the module was changed after it was signed, or the signature is of another one"
    )]
    Broken(String),
    /// A text that is not a key.
    #[error("not an Ed25519 {what} key in PEM ({form}): {cause}; `millstream module keygen` makes one")]
    Key {
        /// `private` or `public`.
        what: &'static str,
        /// What it should be.
        form: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// The machine gives no randomness.
    #[error("no randomness to make a key of: {0}")]
    Randomness(String),
}

/// What signs.
pub struct PrivateKey(Ed25519KeyPair);

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

impl PrivateKey {
    /// A new one, and its PEM to be kept.
    ///
    /// # Errors
    /// [`SignatureError::Randomness`].
    pub fn generate() -> Result<(Self, String), SignatureError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| SignatureError::Randomness(error.to_string()))?;
        let pem = to_pem(PRIVATE_TAG, [PRIVATE_HEAD.as_slice(), &seed].concat());
        Ok((Self::from_pem(&pem)?, pem))
    }

    /// The key in `pem`: PKCS #8, not encrypted, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`SignatureError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let fault = |cause| SignatureError::Key { what: "private", form: "PKCS #8, not encrypted", cause };
        let der = from_pem(pem, PRIVATE_TAG).map_err(fault)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
        pair.map(Self).map_err(|error| fault(format!("the key is refused ({error})")))
    }

    /// What others check its signatures with.
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(*bytes.first_chunk().expect("an Ed25519 public key has 32 bytes"))
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey(of {})", self.public().id())
    }
}

impl PublicKey {
    /// The key in `pem`: SubjectPublicKeyInfo, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`SignatureError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let fault = |cause| SignatureError::Key { what: "public", form: "SubjectPublicKeyInfo", cause };
        let der = from_pem(pem, PUBLIC_TAG).map_err(fault)?;
        let key = der.strip_prefix(&PUBLIC_HEAD).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(|| fault("the key is of another kind".to_owned()))
    }

    /// The key as PEM.
    pub fn to_pem(&self) -> String {
        to_pem(PUBLIC_TAG, self.to_der())
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; ED25519_PUBLIC_KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; ED25519_PUBLIC_KEY_LEN] {
        self.0
    }

    /// What it is called: the first 16 hexadecimal digits of the SHA-256 of its SubjectPublicKeyInfo in DER.
    pub fn id(&self) -> String {
        let mut id = hex::encode(Sha256::digest(self.to_der()));
        id.truncate(16);
        id
    }

    fn to_der(&self) -> Vec<u8> {
        [PUBLIC_HEAD.as_slice(), &self.0].concat()
    }
}

fn to_pem(tag: &str, der: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}

fn from_pem(text: &str, tag: &str) -> Result<Vec<u8>, String> {
    let pem = pem::parse(text).map_err(|error| error.to_string())?;
    match pem.tag() {
        found if found == tag => Ok(pem.into_contents()),
        found => Err(format!("it is a {found}, and a {tag} is needed")),
    }
}

/// `wasm` with one more signature. What `key` signed already stays as it is.
///
/// # Errors
/// [`SignatureError`], also when a signature that is there does not hold.
pub fn sign(wasm: &[u8], key: &PrivateKey) -> Result<Vec<u8>, SignatureError> {
    let signers = signers(wasm)?;
    if signers.contains(&key.public()) {
        return Ok(wasm.to_vec());
    }
    if signers.len() >= SIGNATURES_MAX {
        return Err(SignatureError::TooMany);
    }
    let signature = key.0.sign(&message(unsigned(wasm)?));
    let mut signed = wasm.to_vec();
    signed.extend_from_slice(&section(&key.public(), signature.as_ref()));
    Ok(signed)
}

/// Who signed `wasm`. Every signature is checked, whoever made it.
///
/// # Errors
/// [`SignatureError`] when one of them does not hold.
pub fn signers(wasm: &[u8]) -> Result<Vec<PublicKey>, SignatureError> {
    let (places, content) = split(wasm)?;
    let message = message(content);
    let mut signers = Vec::with_capacity(places.len());
    for (index, place) in places.into_iter().enumerate() {
        let form = || SignatureError::Form { number: index + 1 };
        let bytes = wasm.get(place).ok_or_else(form)?;
        let (key, signature) = parse(bytes).ok_or_else(form)?;
        if UnparsedPublicKey::new(&ED25519, key.0).verify(&message, signature).is_err() {
            return Err(SignatureError::Broken(key.id()));
        }
        if signers.contains(&key) {
            return Err(SignatureError::Twice(key.id()));
        }
        signers.push(key);
    }
    Ok(signers)
}

/// `wasm` without its signatures: what each of them signs.
///
/// # Errors
/// [`SignatureError`] when they are not where they belong.
pub fn unsigned(wasm: &[u8]) -> Result<&[u8], SignatureError> {
    split(wasm).map(|(_, content)| content)
}

/// Where the signatures are, and what is in front of them.
fn split(wasm: &[u8]) -> Result<(Vec<Range<usize>>, &[u8]), SignatureError> {
    if sections::format(wasm) != Format::Component {
        return Err(SignatureError::NotAComponent);
    }
    let (mut places, mut end) = (Vec::<Range<usize>>::new(), None);
    for section in sections::outer(wasm) {
        let section = section.ok_or(SignatureError::Sections)?;
        if !section.is_custom(SIGNATURE_SECTION) {
            if !places.is_empty() {
                return Err(SignatureError::NotLast { number: places.len() });
            }
            continue;
        }
        if places.len() == SIGNATURES_MAX {
            return Err(SignatureError::TooMany);
        }
        end.get_or_insert(section.place.start);
        places.push(section.place);
    }
    let content = wasm.get(..end.unwrap_or(wasm.len())).unwrap_or(wasm);
    Ok((places, content))
}

fn message(content: &[u8]) -> Vec<u8> {
    [DOMAIN, Sha256::digest(content).as_slice()].concat()
}

fn head() -> [u8; 3] {
    let byte = |len: usize| u8::try_from(len).expect("below 128, as asserted");
    [0, byte(CONTENT_BYTES), byte(SIGNATURE_SECTION.len())]
}

fn section(key: &PublicKey, signature: &[u8]) -> Vec<u8> {
    [&head(), SIGNATURE_SECTION.as_bytes(), &[FORMAT], &key.0, signature].concat()
}

/// Takes one form alone: lengths that are written otherwise are bytes that nobody signed.
fn parse(section: &[u8]) -> Option<(PublicKey, &[u8; SIGNATURE_BYTES])> {
    let rest = section.strip_prefix(&head())?.strip_prefix(SIGNATURE_SECTION.as_bytes())?;
    let (key, signature) = rest.strip_prefix(&[FORMAT])?.split_first_chunk()?;
    Some((PublicKey(*key), signature.try_into().ok()?))
}

const _: () = assert!(CONTENT_BYTES < 128, "its length takes one byte");

#[cfg(test)]
mod tests;
