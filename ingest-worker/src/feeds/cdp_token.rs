//! Tokens that authenticate a subscription to Coinbase Advanced Trade: a JWT signed with a key of the Coinbase
//! Developer Platform (ES256), good for two minutes, a fresh one for every message.
//!
//! Market data needs none, but the vendor calls authenticated connections the more reliable ones. Vendor's description:
//! <https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication>.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer},
    pkcs8::DecodePrivateKey,
};
use sha2::{Digest, Sha256};

use super::FeedSettings;
use crate::kinds::Timestamp;

/// Both or neither are set.
pub(super) const CREDENTIALS: &[&str] = &[NAME, PEM];
const NAME: &str = "COINBASE_CDP_KEY_NAME";
const PEM: &str = "COINBASE_CDP_KEY_PEM";
/// Seconds for which the vendor accepts a token.
const LIFETIME: i64 = 120;

/// A key of the platform.
pub(super) struct CdpKey {
    name: String,
    key: SigningKey,
}

impl CdpKey {
    /// The key of the environment, `None` where none is set.
    ///
    /// # Errors
    /// A text that is no key, without the text.
    pub(super) fn of(settings: &FeedSettings) -> Result<Option<Self>, String> {
        let (name, pem) = (settings.credential(NAME), settings.credential(PEM));
        if name.is_empty() && pem.is_empty() {
            return Ok(None);
        }
        // A variable of one line spells the line ends.
        let pem = pem.replace("\\n", "\n");
        // The platform hands out SEC 1; tools that convert it write PKCS #8.
        let key = SecretKey::from_sec1_pem(&pem)
            .ok()
            .or_else(|| SecretKey::from_pkcs8_pem(&pem).ok())
            .ok_or_else(|| format!("{PEM} is no private key of the curve P-256 in PEM"))?;
        Ok(Some(CdpKey { name: name.to_owned(), key: SigningKey::from(&key) }))
    }

    /// A token for the message called `purpose`, valid from `now`.
    pub(super) fn token(&self, purpose: &str, now: Timestamp) -> String {
        // Different for every message and connection, and of no use without the key.
        let seed = format!("{purpose} {}", now.timestamp_nanos_opt().unwrap_or_default());
        let nonce: String = Sha256::digest(seed).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let header = serde_json::json!({"alg": "ES256", "typ": "JWT", "kid": self.name, "nonce": nonce});
        let claims = serde_json::json!({
            "iss": "cdp", "sub": self.name, "nbf": now.timestamp(), "exp": now.timestamp() + LIFETIME,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature: Signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use p256::pkcs8::{EncodePrivateKey, LineEnding};

    use super::*;
    use crate::{
        feeds::{StreamFeed, coinbase::Coinbase},
        wire::Secret,
    };

    fn settings(pem: &str) -> FeedSettings {
        let credentials =
            [(NAME, Secret("organizations/o/apiKeys/k".into())), (PEM, Secret(pem.into()))].into();
        FeedSettings {
            symbols: vec!["BTC-USD".into()],
            trades: true,
            quotes: true,
            credentials,
            ..FeedSettings::default()
        }
    }

    /// Checks the signature with another implementation of ECDSA; returns the claims.
    fn verified(token: &str, secret: &SecretKey) -> serde_json::Value {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let point = p256::elliptic_curve::sec1::ToEncodedPoint::to_encoded_point(&secret.public_key(), false);
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point.as_bytes())
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        let claims = signed.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
    }

    #[test]
    fn every_subscription_carries_its_own_signed_token() {
        let secret = SecretKey::from_slice(&[7; 32]).unwrap();
        let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap().to_string();
        let pkcs8 = secret.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let now: Timestamp = "2026-11-20T15:00:00Z".parse().unwrap();
        for pem in [sec1.clone(), sec1.replace('\n', "\\n"), pkcs8] {
            let plan = Coinbase::new(settings(&pem)).unwrap().plan(now).unwrap();
            let mut tokens = std::collections::BTreeSet::new();
            for message in &plan.on_open {
                assert!(message.is_secret);
                let frame: serde_json::Value = serde_json::from_str(&message.text).unwrap();
                let claims = verified(frame["jwt"].as_str().unwrap(), &secret);
                assert_eq!(
                    (&claims["iss"], &claims["sub"]),
                    (&"cdp".into(), &"organizations/o/apiKeys/k".into())
                );
                assert_eq!(claims["nbf"], now.timestamp());
                assert_eq!(claims["exp"], now.timestamp() + 120);
                tokens.insert(frame["jwt"].to_string());
            }
            assert_eq!(tokens.len(), plan.on_open.len());
            assert!(!format!("{plan:?}").contains("jwt"), "tokens are never printed");
        }
    }

    #[test]
    fn without_a_key_the_messages_are_public_and_a_broken_one_is_named() {
        let public = FeedSettings { credentials: Default::default(), ..settings("") };
        let plan = Coinbase::new(public).unwrap().plan(Timestamp::UNIX_EPOCH).unwrap();
        assert!(plan.on_open.iter().all(|message| !message.is_secret && !message.text.contains("jwt")));
        let error = Coinbase::new(settings("hunter2")).err().unwrap();
        assert!(error.contains(PEM) && !error.contains("hunter2"), "{error}");
    }
}
