//! Checks that the operator's page, where it is served, is out of the clients' reach and has a key of its own.
//!
//! Part of the checks of meaning.

use super::Review;

pub(super) fn check(review: &mut Review<'_>) {
    let (admin, server) = (&review.config.admin, &review.config.server);
    if !admin.api_key.is_empty() && !admin.api_key_file.is_empty() {
        review.say(
            "two_admin_keys",
            "admin.api_key_file",
            "both `admin.api_key` and `admin.api_key_file` are set",
            "keep one of them",
        );
    }
    if !admin.enabled {
        return;
    }
    if server.internal_listen.is_empty() {
        review.say(
            "admin_without_listener",
            "admin.enabled",
            "`admin.enabled` needs `server.internal_listen`: the page is not served where clients connect",
            "set `server.internal_listen` to an address that only operators reach, such as 127.0.0.1:8001",
        );
    }
    if admin.api_key.is_empty() && admin.api_key_file.is_empty() {
        review.say(
            "admin_without_key",
            "admin.enabled",
            "`admin.enabled` needs `admin.api_key`, or `admin.api_key_file`",
            "set one of them, in the shipped files by ADMIN_API_KEY or ADMIN_API_KEY_FILE",
        );
    }
    if !admin.api_key.is_empty() && admin.api_key == server.api_key {
        review.say(
            "admin_key_shared",
            "admin.api_key",
            "`admin.api_key` is the gateway's key, which the backend knows",
            "take another one, for instance from `openssl rand -hex 32`",
        );
    }
}
