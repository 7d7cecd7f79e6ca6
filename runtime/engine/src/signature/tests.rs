//! What signatures hold against: every changed byte, and sections where they do not belong.

use proptest::prelude::*;

use super::*;
use crate::{Trust, TrustError};

/// Made by OpenSSL 3.0.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAoiXHiCMUBEc3/AiU1wX2VNh3pNy/UrGW1zpuIEBZw+
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAXd4e1P02XShanPEqGFg8/XBr/UXuwkn9H2ZSfyfSEDo=
-----END PUBLIC KEY-----
";
/// `openssl pkey -pubin -in public.pem -outform DER | sha256sum`, the first 16 digits.
const ID: &str = "e9078471ef524340";
/// `openssl pkeyutl -sign -rawin` over the message for [`component`].
const BY_OPENSSL: &str = "fd071e088c76e105f4d09a86816c98117bfb13c708443483d644c53d8b330bd5\
                          ad8b8f86edcbb88ab098aa5f48498a8a5f4f76d037193e3df2bc9db8990d5e0e";
const PUBLIC_EC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVTli9uKLTn+2jVghASjs40JGrfQS
wBqKFnGkWo0iNgdkX0YYqF3+sQgYIhmTmK2BBX7ZxR1cNQRd2L6BBMJIag==
-----END PUBLIC KEY-----
";

fn key(seed: u8) -> PrivateKey {
    PrivateKey(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
}

fn custom(name: &str) -> Vec<u8> {
    let len = u8::try_from(name.len()).unwrap();
    [&[0, len + 1, len], name.as_bytes()].concat()
}

/// A component of one custom section.
fn component() -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".as_slice(), &custom("name")].concat()
}

fn ids(wasm: &[u8]) -> Result<Vec<String>, SignatureError> {
    signers(wasm).map(|signers| signers.iter().map(PublicKey::id).collect())
}

/// Whether a broker runs it that trusts `key` alone.
fn runs(wasm: &[u8], key: &PrivateKey) -> Result<(), TrustError> {
    Trust { keys: vec![key.public()], required: true }.check(wasm).map(drop)
}

#[test]
fn several_sign_in_any_order() {
    let (a, b) = (key(1), key(2));
    let plain = component();
    assert_eq!(ids(&plain), Ok(Vec::new()));
    let (by_a, by_b) = (sign(&plain, &a).unwrap(), sign(&plain, &b).unwrap());
    let (first, second) = (sign(&by_a, &b).unwrap(), sign(&by_b, &a).unwrap());
    assert_eq!(ids(&first), Ok(vec![a.public().id(), b.public().id()]));
    assert_eq!(ids(&second), Ok(vec![b.public().id(), a.public().id()]));
    assert_eq!(sign(&first, &a).unwrap(), first, "who signed already does not again");
    assert_eq!(unsigned(&second).unwrap(), plain);
    for signed in [&first, &second] {
        assert_eq!((runs(signed, &a), runs(signed, &b)), (Ok(()), Ok(())));
        let both = [a.public().id(), b.public().id()];
        match runs(signed, &key(3)) {
            Err(TrustError::Unknown(mut found)) => {
                found.sort();
                assert!(both.iter().all(|id| found.contains(id)), "{found:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(runs(&plain, &a), Err(TrustError::Unsigned));
    // Without the setting they are told, and nothing more is asked.
    let lenient = Trust { keys: vec![a.public()], required: false };
    assert_eq!(lenient.check(&plain), Ok(Vec::new()));
    assert_eq!(lenient.check(&by_b), Ok(vec![b.public()]));
}

#[test]
fn no_bit_can_be_changed() {
    let (a, b) = (key(1), key(2));
    let signed = sign(&sign(&component(), &b).unwrap(), &a).unwrap();
    assert_eq!(runs(&signed, &a), Ok(()));
    for index in 0..signed.len() {
        for bit in 0..8 {
            let mut changed = signed.clone();
            changed[index] ^= 1 << bit;
            assert!(runs(&changed, &a).is_err(), "bit {bit} of byte {index}");
        }
    }
    for end in 0..signed.len() {
        assert!(runs(&signed[..end], &a).is_err(), "cut off at {end}");
    }
    assert_eq!(runs(&[&signed, [0].as_slice()].concat(), &a), Err(SignatureError::Sections.into()));
}

#[test]
fn sections_belong_where_they_are() {
    let (plain, a) = (component(), key(1));
    let signed = sign(&plain, &a).unwrap();
    let signature = &signed[plain.len()..];
    let (head, rest) = plain.split_at(8);
    // Moved to the front, followed by something, with something between two, twice, and of another module.
    for (wasm, wanted) in [
        ([head, signature, rest].concat(), SignatureError::NotLast { number: 1 }),
        ([&signed, custom("x").as_slice()].concat(), SignatureError::NotLast { number: 1 }),
        ([&signed, custom("x").as_slice(), signature].concat(), SignatureError::NotLast { number: 1 }),
        ([&signed, signature].concat(), SignatureError::Twice(a.public().id())),
        ([&plain, &custom("x"), signature].concat(), SignatureError::Broken(a.public().id())),
        ([&plain, &custom(SIGNATURE_SECTION), signature].concat(), SignatureError::Form { number: 1 }),
        (signature.repeat(100), SignatureError::NotAComponent),
        (b"\0asm\x01\0\0\0".to_vec(), SignatureError::NotAComponent),
    ] {
        assert_eq!(ids(&wasm), Err(wanted.clone()), "{wasm:?}");
        // Nor is there anything to add to it.
        assert_eq!(sign(&wasm, &key(2)), Err(wanted));
    }
    // Where nobody looks, it is a part of what is signed.
    let nested = [&plain, [4, u8::try_from(signed.len()).unwrap() | 0x80, 1].as_slice(), &signed].concat();
    assert_eq!(ids(&nested), Ok(Vec::new()));
    let nested = sign(&nested, &key(2)).unwrap();
    assert_eq!(ids(&nested), Ok(vec![key(2).public().id()]));
}

#[test]
fn lengths_have_one_form() {
    let (plain, a) = (component(), key(1));
    let signed = sign(&plain, &a).unwrap();
    let signature = &signed[plain.len()..];
    let longer = [&plain, [0, signature[1] | 0x80, 0].as_slice(), &signature[2..]].concat();
    assert_eq!(ids(&longer), Err(SignatureError::Form { number: 1 }));
    let name = [0, signature[1] + 1, signature[2] | 0x80, 0];
    assert_eq!(
        ids(&[&plain, name.as_slice(), &signature[3..]].concat()),
        Err(SignatureError::Form { number: 1 })
    );
    let more = [&plain, [0, signature[1] + 1].as_slice(), &signature[2..], &[0]].concat();
    assert_eq!(ids(&more), Err(SignatureError::Form { number: 1 }));
}

#[test]
fn so_many_are_looked_at() {
    let many = |count: usize| {
        (0..count).try_fold(component(), |wasm, n| sign(&wasm, &key(u8::try_from(n).unwrap())))
    };
    let full = many(SIGNATURES_MAX).unwrap();
    assert_eq!(signers(&full).unwrap().len(), SIGNATURES_MAX);
    assert_eq!(sign(&full, &key(200)), Err(SignatureError::TooMany));
    let signature = &full[full.len() - 120..];
    let thousands = [&component(), signature.repeat(20_000).as_slice()].concat();
    assert_eq!(signers(&thousands), Err(SignatureError::TooMany));
}

#[test]
fn openssl_reads_and_makes_the_same_keys() {
    let (private, public) = (PrivateKey::from_pem(PRIVATE).unwrap(), PublicKey::from_pem(PUBLIC).unwrap());
    assert_eq!(private.public(), public);
    assert_eq!(public.to_pem(), PUBLIC);
    let seed = *pem::parse(PRIVATE).unwrap().contents().last_chunk::<32>().unwrap();
    assert_eq!(to_pem(PRIVATE_TAG, [PRIVATE_HEAD.as_slice(), &seed].concat()), PRIVATE);
    let (made, pem) = PrivateKey::generate().unwrap();
    assert_eq!(PrivateKey::from_pem(&pem).unwrap().public(), made.public());
    assert_ne!(PrivateKey::generate().unwrap().0.public(), made.public());
    assert_eq!(public.id(), ID);
    assert_eq!(PublicKey::from_bytes(public.to_bytes()), public);
    let signed = [component(), section(&public, &hex::decode(BY_OPENSSL).unwrap())].concat();
    assert_eq!(sign(&component(), &private).unwrap(), signed);
    assert_eq!(ids(&signed), Ok(vec![ID.to_owned()]));
}

#[test]
fn what_is_no_key_is_refused_with_what_to_do() {
    let encrypted = PRIVATE.replace("PRIVATE", "ENCRYPTED PRIVATE");
    for pem in ["", "key", PUBLIC, &encrypted, &PRIVATE.replace("MC4C", "MC4D")] {
        let error = PrivateKey::from_pem(pem).unwrap_err().to_string();
        assert!(error.contains("PKCS #8") && error.contains("keygen"), "{error}");
    }
    for pem in ["", PRIVATE, PUBLIC_EC, &PUBLIC[..60]] {
        let error = PublicKey::from_pem(pem).unwrap_err().to_string();
        assert!(error.contains("SubjectPublicKeyInfo") && error.contains("keygen"), "{error}");
    }
    let shown = format!("{:?}", PrivateKey::from_pem(PRIVATE).unwrap());
    assert_eq!(shown, format!("PrivateKey(of {ID})"), "no secret is shown");
}

proptest! {
    #[test]
    fn whatever_comes_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), sections in 0..4usize) {
        let rest = custom(SIGNATURE_SECTION).repeat(sections);
        let wasm = [b"\0asm\x0d\0\x01\0".as_slice(), &bytes, &rest].concat();
        if let Ok(signed) = sign(&wasm, &key(1)) {
            prop_assert!(signers(&signed).unwrap().contains(&key(1).public()));
            prop_assert_eq!(unsigned(&signed).unwrap(), unsigned(&wasm).unwrap());
        }
    }
}
