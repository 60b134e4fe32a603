//! Checks that secrets are there, long enough and well-formed, without ever showing one.
//!
//! Part of the checks of meaning.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Review;
use crate::config::Secret;
use crate::stages::StageConfig;

/// Characters below which a secret can be guessed.
const SHORTEST: usize = 16;

pub(super) fn check(review: &mut Review<'_>) {
    let config = review.config;
    if config.server.api_key.is_empty() {
        review.say(
            "no_api_key",
            "server.api_key",
            "`server.api_key` is empty: every call to `/internal/*` is refused with 403",
            "set it, in the shipped files by GATEWAY_API_KEY",
        );
    }
    length(review, "server.api_key", &config.server.api_key);
    length(review, "admin.api_key", &config.admin.api_key);
    let secret = &config.events.webhook.secret;
    match secret.reveal().strip_prefix("whsec_") {
        Some(rest) if STANDARD.decode(rest).is_err() || rest.is_empty() => {
            review.say(
                "bad_whsec",
                "events.webhook.secret",
                "`events.webhook.secret` begins with `whsec_`, and what follows is not base64",
                "copy the secret again, or drop the prefix",
            );
        }
        Some(_) => {}
        None => length(review, "events.webhook.secret", secret),
    }
    for stage in &config.stages {
        if let StageConfig::Auth(auth) = stage
            && auth.jwt.algorithm.is_symmetric()
        {
            length(review, "stages.auth.jwt.public_key", &auth.jwt.public_key);
        }
    }
}

fn length(review: &mut Review<'_>, path: &str, secret: &Secret) {
    let length = secret.reveal().chars().count();
    if (1..SHORTEST).contains(&length) {
        review.say(
            "short_secret",
            path,
            format!("`{path}` is shorter than {SHORTEST} characters and can be guessed"),
            "take a longer one, for instance from `openssl rand -hex 32`",
        );
    }
}
