//! The tokens that clients connect with: signed here, or given.

use std::path::Path;

use super::args::Shared;
use super::{BenchError, Result, progress};
use crate::cli::token::{TokenArgs, claims, signing_key};
use crate::jwt::sign_token;

const LIFETIME_SECONDS: u64 = 4 * 3600;

/// One token for each client, or some that they use in turn; none where none is needed.
pub(super) struct Tokens(Vec<String>);

impl Tokens {
    /// Reads them, or signs those of users 0 to `count` - 1 ahead of time, since that is slow.
    pub(super) fn new(shared: &Shared, count: usize, subject: Option<&str>) -> Result<Self> {
        if let Some(token) = &shared.token {
            return Self::given(token, "--token");
        }
        if let Some(file) = &shared.token_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                BenchError::usage(format!("--token-file {}: {error}", file.display()))
            })?;
            return Self::given(&text, "--token-file");
        }
        // An empty variable is as good as none.
        match shared
            .key
            .as_ref()
            .filter(|key| !key.as_os_str().is_empty())
        {
            Some(key) => Self::signed(shared, key, count, subject),
            None => Ok(Self(Vec::new())),
        }
    }

    fn given(text: &str, option: &str) -> Result<Self> {
        let tokens: Vec<String> = text
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        let sound = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        if tokens.is_empty() || !tokens.iter().all(sound) {
            let text = format!("{option}: expected a token of visible characters on each line");
            return Err(BenchError::usage(text));
        }
        Ok(Self(tokens))
    }

    fn signed(shared: &Shared, key: &Path, count: usize, subject: Option<&str>) -> Result<Self> {
        let usage = |error: &dyn std::fmt::Display| BenchError::usage(error.to_string());
        let mut args = TokenArgs {
            user: String::new(),
            user_claim: shared.user_claim.clone(),
            ttl: LIFETIME_SECONDS,
            claims: Vec::new(),
            key: key.to_owned(),
            alg: shared.alg.clone(),
        };
        if let Some(subject) = subject {
            args.claims
                .push(format!("subjects={}", serde_json::json!([subject])));
        }
        args.claims.extend_from_slice(&shared.claims);
        let key = signing_key(&args).map_err(|error| usage(&error))?;
        let now = crate::clock::unix_now();
        let bar = progress::bar("tokens", count);
        let mut tokens = Vec::with_capacity(count);
        for user in 0..count {
            args.user = user.to_string();
            let claims = claims(&args, now).map_err(|error| usage(&error))?;
            tokens.push(sign_token(&key, &claims).map_err(|error| usage(&error))?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Self(tokens))
    }

    /// The token of a client.
    pub(super) fn of(&self, client: usize) -> Option<&str> {
        let index = client.checked_rem(self.0.len())?;
        self.0.get(index).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_tokens_are_used_in_turn() {
        let tokens = Tokens::given("a\n\n b \n", "--token").unwrap();
        assert_eq!(
            [0, 1, 2].map(|client| tokens.of(client).unwrap()),
            ["a", "b", "a"]
        );
        assert!(Tokens(Vec::new()).of(3).is_none());
        for wrong in ["", "\n", "a b", "a\u{7}"] {
            assert!(Tokens::given(wrong, "--token").is_err(), "{wrong:?}");
        }
    }
}
