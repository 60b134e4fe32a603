//! Signs webhooks, so that the backend knows that an event comes from its gateway.
//!
//! Stands between an event's JSON and its request: each try is signed anew, since its time is signed too.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::fmt::Hyphenated;

use super::{SignatureForm, WebhookError};
use crate::config::Secret;
use crate::event::Event;

/// Prefix of secrets in the form of the Standard Webhooks specification.
const WHSEC: &str = "whsec_";

const X_WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("x-webhook-signature");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const WEBHOOK_EVENT: HeaderName = HeaderName::from_static("webhook-event");

/// The prepared keys of one secret.
#[derive(Debug)]
pub(super) struct Signer {
    /// The secret as it is written.
    raw: hmac::Key,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// The key of the Standard Webhooks headers, which may differ from the raw one.
    Standard(Box<hmac::Key>),
    Symfony,
}

impl Signer {
    /// Prepares the keys; no secret, no signer.
    pub(super) fn new(secret: &Secret, form: SignatureForm) -> Result<Option<Self>, WebhookError> {
        if secret.is_empty() {
            return Ok(None);
        }
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let text = secret.reveal();
        let form = match (form, text.strip_prefix(WHSEC)) {
            (SignatureForm::Symfony, _) => Form::Symfony,
            (SignatureForm::Standard, None) => Form::Standard(Box::new(key(text.as_bytes()))),
            (SignatureForm::Standard, Some(encoded)) => {
                let bytes = STANDARD.decode(encoded).map_err(|_| WebhookError::Secret)?;
                Form::Standard(Box::new(key(&bytes)))
            }
        };
        Ok(Some(Self {
            raw: key(text.as_bytes()),
            form,
        }))
    }

    /// Adds the signature headers of one try, made at `now` in unix seconds.
    pub(super) fn sign(&self, event: &Event, now: u64, headers: &mut HeaderMap) {
        let body = &event.json[..];
        let signature = hex(b"sha256=", &hmac::sign(&self.raw, body));
        headers.insert(X_WEBHOOK_SIGNATURE, value(signature));
        let mut buffer = [0; Hyphenated::LENGTH];
        let id = &*event.id.hyphenated().encode_lower(&mut buffer);
        headers.insert(WEBHOOK_ID, value(id.as_bytes().to_vec()));
        match &self.form {
            Form::Standard(key) => {
                let now = now.to_string();
                let mut context = hmac::Context::with_key(key);
                context.update(id.as_bytes());
                context.update(b".");
                context.update(now.as_bytes());
                context.update(b".");
                context.update(body);
                let mut signature = String::with_capacity(64);
                signature.push_str("v1,");
                STANDARD.encode_string(context.sign(), &mut signature);
                headers.insert(WEBHOOK_TIMESTAMP, value(now.into_bytes()));
                headers.insert(WEBHOOK_SIGNATURE, value(signature.into_bytes()));
            }
            Form::Symfony => {
                let kind = event.kind.as_str();
                let mut context = hmac::Context::with_key(&self.raw);
                context.update(kind.as_bytes());
                context.update(id.as_bytes());
                context.update(body);
                let signature = hex(b"sha256=", &context.sign());
                headers.insert(WEBHOOK_EVENT, HeaderValue::from_static(kind));
                headers.insert(WEBHOOK_SIGNATURE, value(signature));
            }
        }
    }
}

/// A header value of bytes that are visible ASCII by the way they were made.
fn value(bytes: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(bytes))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn hex(prefix: &[u8], tag: &hmac::Tag) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = tag.as_ref();
    let mut out = Vec::with_capacity(prefix.len() + bytes.len() * 2);
    out.extend_from_slice(prefix);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use uuid::Uuid;

    fn event() -> Event {
        Event {
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            kind: EventKind::MessageReceived,
            connection_id: Uuid::nil(),
            user_id: "1".into(),
            replayed: false,
            spoken_for: None,
            receipt: None,
            seq: 2,
            ordering_key: None,
            traceparent: None,
            trace_id: None,
            span: None,
            json: Bytes::from_static(b"{\"type\":\"message_received\"}"),
        }
    }

    fn headers(secret: &str, form: SignatureForm) -> HeaderMap {
        let signer = Signer::new(&Secret::from(secret.to_owned()), form);
        let mut headers = HeaderMap::new();
        signer
            .unwrap()
            .unwrap()
            .sign(&event(), 1_700_000_000, &mut headers);
        headers
    }

    // The expected signatures were computed by Python's hmac module.
    #[test]
    fn standard_headers_are_exact() {
        let headers = headers("s3cret", SignatureForm::Standard);
        assert_eq!(headers.len(), 4);
        assert_eq!(
            headers["x-webhook-signature"],
            "sha256=de8ae50a1da7c729e0899fabbe5f085d44b9fcf533c1c700e00c20a9764b677b"
        );
        assert_eq!(
            headers["webhook-id"],
            "01900000-0000-7000-8000-000000000001"
        );
        assert_eq!(headers["webhook-timestamp"], "1700000000");
        assert_eq!(
            headers["webhook-signature"],
            "v1,TmJsxZ9ES5Hf56NURk1qFyo1POuAxhONsT0E7MmQ2T0="
        );
    }

    #[test]
    fn whsec_secrets_are_decoded_for_the_standard_signature_only() {
        let headers = headers(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            SignatureForm::Standard,
        );
        assert_eq!(
            headers["x-webhook-signature"],
            "sha256=62cd77d1db5ec5594642c8a251f974c3b6c33cc0871b7aea4fb7d8a0d3493eed"
        );
        assert_eq!(
            headers["webhook-signature"],
            "v1,30MwFec9GFpWecxSamzl6UA/eWpNTkuFXJuVqxDZwFA="
        );
        let bad = Secret::from("whsec_*".to_owned());
        assert!(Signer::new(&bad, SignatureForm::Standard).is_err());
        assert!(Signer::new(&bad, SignatureForm::Symfony).is_ok());
    }

    #[test]
    fn symfony_headers_are_exact() {
        let headers = headers("s3cret", SignatureForm::Symfony);
        assert_eq!(headers.len(), 4);
        assert_eq!(headers["webhook-event"], "message_received");
        assert_eq!(
            headers["webhook-id"],
            "01900000-0000-7000-8000-000000000001"
        );
        assert_eq!(
            headers["webhook-signature"],
            "sha256=faf2b291520a715e0aca1ad00976a53b67cd9385f8a07ff51a660cff4c5464aa"
        );
        assert_eq!(
            headers["x-webhook-signature"],
            "sha256=de8ae50a1da7c729e0899fabbe5f085d44b9fcf533c1c700e00c20a9764b677b"
        );
    }

    #[test]
    fn no_secret_no_signature() {
        let signer = Signer::new(&Secret::default(), SignatureForm::Standard).unwrap();
        assert!(signer.is_none());
    }
}
