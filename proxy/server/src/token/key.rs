//! Public keys as DID documents and `did:key` write them, and whether a signature is theirs.

use std::sync::Arc;

/// Bytes of a compressed point of either curve.
const POINT: usize = 33;
/// The first bytes of a key that say which curve it is of: multicodec `secp256k1-pub` and `p256-pub` as varints.
const SECP256K1: [u8; 2] = [0xe7, 0x01];
const P256: [u8; 2] = [0x80, 0x24];
/// Longest text of a key: 35 bytes are 48 letters of base58.
const TEXT_MAX: usize = 64;

/// What a signature is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with secp256k1 and SHA-256.
    Es256k,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl Algorithm {
    /// By the word in a token's header.
    #[must_use]
    pub fn of(word: &str) -> Option<Algorithm> {
        match word {
            "ES256K" => Some(Algorithm::Es256k),
            "ES256" => Some(Algorithm::Es256),
            _ => None,
        }
    }
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Not `did:key:z...` and not `z...`.
    #[error("a key is written as did:key:z... or, as publicKeyMultibase in a DID document, z...")]
    Form,
    /// Letters that are none of base58.
    #[error("what follows the z is not base58")]
    Base58,
    /// A key of another kind.
    #[error("it is neither a secp256k1 nor a P-256 key")]
    Kind,
    /// The bytes are no point of the curve.
    #[error("it is no point of its curve")]
    Point,
}

/// A key, with the text it was read from.
#[derive(Clone, Debug)]
pub struct PublicKey {
    text: Arc<str>,
    curve: Curve,
}

#[derive(Clone, Debug)]
enum Curve {
    Secp256k1(k256::ecdsa::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.text == other.text
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    /// Reads `did:key:z...`, or `z...` as a DID document's `publicKeyMultibase` has it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<PublicKey, KeyProblem> {
        let multibase = text.strip_prefix("did:key:").unwrap_or(text);
        let base58 =
            multibase.strip_prefix('z').filter(|_| text.len() <= TEXT_MAX).ok_or(KeyProblem::Form)?;
        let bytes = bs58::decode(base58).into_vec().map_err(|_| KeyProblem::Base58)?;
        let (kind, point) = bytes.split_first_chunk::<2>().ok_or(KeyProblem::Kind)?;
        if ![SECP256K1, P256].contains(kind) || point.len() != POINT {
            return Err(KeyProblem::Kind);
        }
        let curve = if *kind == SECP256K1 {
            k256::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Curve::Secp256k1)
        } else {
            p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Curve::P256)
        };
        Ok(PublicKey { text: text.into(), curve: curve.map_err(|_| KeyProblem::Point)? })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.curve {
            Curve::Secp256k1(_) => Algorithm::Es256k,
            Curve::P256(_) => Algorithm::Es256,
        }
    }

    /// Whether it has signed these bytes. Of the two signatures that mean the same, either is taken: whose it is is all
    /// that is asked. Takes 0.1 ms or so.
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        match &self.curve {
            Curve::Secp256k1(key) => {
                use k256::ecdsa::signature::Verifier as _;
                k256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    let signature = signature.normalize_s().unwrap_or(signature);
                    key.verify(bytes, &signature).is_ok()
                })
            }
            Curve::P256(key) => {
                use p256::ecdsa::signature::Verifier as _;
                p256::ecdsa::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify(bytes, &signature).is_ok())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the did:key specification's test vectors.
    const OF_SECP256K1: &str = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";
    const OF_P256: &str = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169";

    #[test]
    fn keys_are_read_as_documents_write_them() {
        for (text, algorithm) in [(OF_SECP256K1, Algorithm::Es256k), (OF_P256, Algorithm::Es256)] {
            let key = PublicKey::parse(text).expect("a key");
            assert_eq!((key.algorithm(), &**key.text()), (algorithm, text));
            let bare = text.strip_prefix("did:key:").expect("the prefix");
            assert_eq!(PublicKey::parse(bare).expect("a key").algorithm(), algorithm);
        }
    }

    #[test]
    fn what_is_no_key_says_why() {
        let encoded = |bytes: &[u8]| format!("z{}", bs58::encode(bytes).into_string());
        let point = |first: [u8; 2], fill: u8, len: usize| {
            let mut bytes = first.to_vec();
            bytes.resize(len + 2, fill);
            encoded(&bytes)
        };
        for (text, problem) in [
            (String::new(), KeyProblem::Form),
            ("did:plc:abc".to_owned(), KeyProblem::Form),
            (format!("z{}", "1".repeat(100)), KeyProblem::Form),
            ("z0OIl".to_owned(), KeyProblem::Base58),
            ("z".to_owned(), KeyProblem::Kind),
            // Ed25519
            ("z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".to_owned(), KeyProblem::Kind),
            (point(SECP256K1, 2, 32), KeyProblem::Kind),
            (point(SECP256K1, 0xff, POINT), KeyProblem::Point),
            (point(P256, 9, POINT), KeyProblem::Point),
        ] {
            assert_eq!(PublicKey::parse(&text).expect_err("no key"), problem, "{text}");
        }
    }
}
