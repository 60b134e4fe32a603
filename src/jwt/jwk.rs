//! A JSON Web Key Set (RFC 7517), reduced to the keys that can verify the configured algorithm.
//!
//! Stands between what `jwks` fetches and the keys that `verify` checks with.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::KeyType;
use super::keys::VerifyKey;
use crate::stages::auth::JwtAlgorithm;

/// The usable keys of a key set.
pub(super) struct KeySet {
    keys: Vec<(Option<String>, VerifyKey)>,
}

impl KeySet {
    /// Reads a key set; none if it is not one. Keys of other types or purposes are left out silently:
    /// identity providers publish all theirs in one set (RFC 7517 section 5).
    pub(super) fn parse(json: &[u8], algorithm: JwtAlgorithm) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(json).ok()?;
        let keys = document
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(|jwk| {
                let key = jwk.to_key(algorithm)?;
                Some((jwk.kid, key))
            })
            .collect();
        Some(Self { keys })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of that id; without an id, the key if there is only one.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&VerifyKey> {
        match (kid, self.keys.as_slice()) {
            (None, [(_, only)]) => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys
                .iter()
                .find(|(id, _)| id.as_deref() == Some(kid))
                .map(|(_, key)| key),
        }
    }
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn to_key(&self, algorithm: JwtAlgorithm) -> Option<VerifyKey> {
        if !self.is_meant_for(algorithm) {
            return None;
        }
        let crv = self.crv.as_deref();
        let der = match (algorithm.key_type(), self.kty.as_str()) {
            (KeyType::Rsa, "RSA") => self.rsa_der()?,
            (KeyType::P256, "EC") if crv == Some("P-256") => self.point(32)?,
            (KeyType::P384, "EC") if crv == Some("P-384") => self.point(48)?,
            (KeyType::P521, "EC") if crv == Some("P-521") => self.point(66)?,
            (KeyType::Ed25519, "OKP") if crv == Some("Ed25519") => decode(self.x.as_ref()?)?,
            _ => return None,
        };
        VerifyKey::from_der(&der, algorithm).ok()
    }

    fn is_meant_for(&self, algorithm: JwtAlgorithm) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .alg
                .as_deref()
                .is_none_or(|alg| alg == algorithm.name())
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    fn rsa_der(&self) -> Option<Vec<u8>> {
        let n = decode(self.n.as_ref()?)?;
        let e = decode(self.e.as_ref()?)?;
        let components = RsaPublicKeyComponents {
            // Some providers write the sign byte of the ASN.1 integer, which the parser refuses.
            n: without_leading_zeros(&n),
            e: without_leading_zeros(&e),
        };
        Some(components.as_der().ok()?.as_ref().to_vec())
    }

    /// The uncompressed point (SEC 1 section 2.3.3) from its coordinates, each of `size` bytes.
    fn point(&self, size: usize) -> Option<Vec<u8>> {
        let x = decode(self.x.as_ref()?)?;
        let y = decode(self.y.as_ref()?)?;
        if x.len() != size || y.len() != size {
            return None;
        }
        Some([&[4], x.as_slice(), y.as_slice()].concat())
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
