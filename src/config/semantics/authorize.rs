//! Checks the rules of `authorize`: a rule that cannot be read must not let everything pass.
//!
//! Part of the checks of meaning.

use super::{KeyPath, Review};
use crate::stages::StageConfig;

pub(super) fn check(review: &mut Review<'_>) {
    let config = review.config;
    for (at, stage) in config.stages.iter().enumerate() {
        let StageConfig::Authorize(authorize) = stage else {
            continue;
        };
        let path = KeyPath::setting("stages")
            .child(at.to_string())
            .child("authorize");
        if authorize.rules.is_empty() {
            review.say_at(
                "authorize_without_rules",
                &path,
                "`authorize` has no rules: every message passes",
                "add `rules: [ { field: topic, allow: [\"room:{user_id}:*\"] } ]`, or remove the stage",
            );
        }
        for (index, rule) in authorize.rules.iter().enumerate() {
            let Some((key, fault)) = rule.fault() else {
                continue;
            };
            let rule = path.child("rules").child(index.to_string());
            let place = key.split('.').fold(rule, |path, key| path.child(key));
            review.say_at(
                "bad_authorize_rule",
                &place,
                format!("the rule {fault}"),
                "write a field, and patterns with `*`, `{user_id}` and `{claim:/path}`, or `allow_claim: /path`",
            );
        }
    }
}
