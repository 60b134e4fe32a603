//! Shows a line of a pipeline file without the secrets it holds.
//!
//! Used where problems become diagnostics. It works on the text, because a file with a syntax error has no
//! tree, and errs on the side of hiding: a key it does not know but that sounds secret is masked too.

use std::collections::BTreeSet;

/// Words that make an unknown key sound secret.
const SECRET_WORDS: [&str; 8] = [
    "secret",
    "token",
    "passw",
    "key",
    "pem",
    "dsn",
    "credential",
    "auth",
];

/// The key names of a pipeline file, by whether their values may be shown.
#[derive(Debug, Default)]
pub struct KeyNames {
    /// Keys whose values are secret.
    pub secret: BTreeSet<String>,
    /// Keys whose values are not.
    pub public: BTreeSet<String>,
}

impl KeyNames {
    fn hides(&self, key: &str) -> bool {
        if self.secret.contains(key) {
            return true;
        }
        if self.public.contains(key) {
            return false;
        }
        let lower = key.to_ascii_lowercase();
        SECRET_WORDS.iter().any(|word| lower.contains(word))
            || self
                .secret
                .iter()
                .any(|secret| strsim::damerau_levenshtein(secret, &lower) <= 2)
    }

    /// Gives the lines of `text` with the values of secret keys masked.
    #[must_use]
    pub fn mask(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        // The indentation of a secret key whose value goes on in deeper lines.
        let mut inside: Option<usize> = None;
        // The quote that a secret opened and that no line has closed yet.
        let mut quote: Option<char> = None;
        for line in text.lines() {
            if let Some(open) = quote {
                if line.contains(open) {
                    quote = None;
                }
                lines.push("***".to_owned());
                continue;
            }
            let indent = line.len() - line.trim_start().len();
            if inside.is_some_and(|key_indent| indent > key_indent || line.trim().is_empty()) {
                lines.push(if line.trim().is_empty() {
                    String::new()
                } else {
                    format!("{}***", &line[..indent])
                });
                continue;
            }
            inside = None;
            match self.secret_value(line) {
                Some(at) => {
                    inside = Some(indent);
                    quote = line[at..].trim_start().chars().next().filter(|first| {
                        matches!(first, '"' | '\'') && line[at..].matches(*first).count() % 2 == 1
                    });
                    lines.push(format!("{} ***", line[..at].trim_end()));
                }
                None => lines.push(line.to_owned()),
            }
        }
        lines.into_iter().map(hide_login).collect()
    }

    /// Finds where a line's secret value begins, if it has one worth hiding.
    fn secret_value(&self, line: &str) -> Option<usize> {
        let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let mut from = 0;
        while let Some(start) = line[from..].find(in_word).map(|at| from + at) {
            let end = line[start..]
                .find(|c| !in_word(c))
                .map_or(line.len(), |at| start + at);
            from = end;
            let word = &line[start..end];
            let after = line[end..].trim_start_matches(['"', '\'']).trim_start();
            let value = after.strip_prefix([':', '=']).unwrap_or(after).trim_start();
            // A known secret is hidden even where the colon is forgotten.
            let spaced = after.strip_prefix(':').is_some_and(|rest| {
                rest.is_empty()
                    || rest.starts_with(char::is_whitespace)
                    || line[end..].starts_with(['"', '\''])
            });
            let is_key = self.secret.contains(word) || spaced && self.hides(word);
            // An empty line of a known secret may go on below; a `${NAME}` reveals nothing.
            let reveals = !value.is_empty() || self.secret.contains(word);
            if is_key && reveals && !is_only_variable(value) {
                let colon = line[end..].find([':', '=']).filter(|at| {
                    line[end..end + at]
                        .trim_matches(['"', '\'', ' '])
                        .is_empty()
                });
                return Some(colon.map_or(end, |at| end + at + 1));
            }
        }
        None
    }
}

/// Masks what stands before the `@` of a URL, which is a user's name and password.
fn hide_login(line: String) -> String {
    let Some(start) = line.find("://").map(|at| at + 3) else {
        return line;
    };
    match line[start..].rfind('@') {
        Some(end) => format!("{}***{}", &line[..start], &line[start + end..]),
        None => line,
    }
}

/// Tells whether a value is one `${NAME}`, `${NAME:-}` or Symfony's `%env(NAME)%`, which reveal nothing.
fn is_only_variable(value: &str) -> bool {
    // In quotes, ` #` begins no comment and what follows is part of the value.
    let quoted = value.starts_with(['"', '\'']);
    let value = value
        .split(" #")
        .next()
        .filter(|_| !quoted)
        .unwrap_or(value)
        .trim()
        .trim_end_matches(['}', ' ', ',']);
    let value = value.trim_matches(['"', '\'']).trim_end_matches('}');
    let symfony = value
        .strip_prefix("%env(")
        .and_then(|value| value.strip_suffix(")%"));
    if let Some(expression) = symfony {
        return is_only_env(expression);
    }
    value
        .strip_prefix("${")
        .map(|name| name.strip_suffix(":-").unwrap_or(name))
        .is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
}

/// Tells whether what stands in `%env(…)%` is a variable with at most processors that take no text of their own.
fn is_only_env(expression: &str) -> bool {
    let mut parts = expression.rsplit(':');
    let is_name = parts.next().is_some_and(|name| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    });
    is_name
        && parts.all(|part| matches!(part, "" | "string" | "trim" | "default" | "file" | "base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> KeyNames {
        KeyNames {
            secret: ["api_key", "public_key", "secret"].map(String::from).into(),
            public: [
                "ordering_key",
                "listen",
                "auth",
                "token_sources",
                "public_key_file",
                "jwt",
            ]
            .map(String::from)
            .into(),
        }
    }

    fn masked(text: &str) -> String {
        names().mask(text).join("\n")
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        assert_eq!(masked("api_key: hunter2"), "api_key: ***");
        assert_eq!(masked("\"api_key\" : hunter2"), "\"api_key\" : ***");
        assert_eq!(masked("a: { secret: 'x', listen: y }"), "a: { secret: ***");
        assert_eq!(masked("a: {\"secret\":\"x\"}"), "a: {\"secret\": ***");
        assert_eq!(
            masked("public_key: |\n  AAA\n\n  BBB\nlisten: x"),
            "public_key: ***\n  ***\n\n  ***\nlisten: x"
        );
        assert_eq!(masked("secret:\n  abc"), "secret: ***\n  ***");
        assert_eq!(
            masked("{ secret: \"a\nb\", listen: x}"),
            "{ secret: ***\n***"
        );
    }

    #[test]
    fn misspelt_secrets_are_hidden() {
        assert_eq!(masked("  api_key hunter2"), "  api_key ***");
        assert_eq!(masked("api_key:hunter2"), "api_key: ***");
        assert_eq!(masked("api_key = hunter2"), "api_key = ***");
        assert_eq!(masked("api_kye: hunter2"), "api_kye: ***");
        assert_eq!(masked("password: hunter2"), "password: ***");
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        for line in [
            "- ordering_key: { strategy: banana }",
            "- auth: { jwt: { public_key_file: a } }",
            "listen: 0.0.0.0:8000",
            "api_key: \"${GATEWAY_API_KEY:-}\"",
            "- auth: { jwt: { public_key: \"${JWT_PUBLIC_KEY}\" } }",
            "secret: '%env(SYMFONY_WEBHOOK_SECRET)%'",
            "secret: '%env(string:default::WS_2)%'",
        ] {
            assert_eq!(masked(line), line);
        }
        assert_eq!(masked("api_key: \"${X:-hunter2}\""), "api_key: ***");
        assert_eq!(masked("api_key: \"${X} #hunter2\""), "api_key: ***");
        assert_eq!(masked("secret: '%env(hunter2)%'"), "secret: ***");
        assert_eq!(masked("secret: '%env(default:hunter2:X)%'"), "secret: ***");
        assert_eq!(masked("secret: '%env(X)%hunter2'"), "secret: ***");
    }

    #[test]
    fn logins_in_urls_are_hidden() {
        assert_eq!(
            masked("listen: http://me:p@ss@host:1/a"),
            "listen: http://***@host:1/a"
        );
        assert_eq!(masked("listen: http://host:1/a"), "listen: http://host:1/a");
    }
}
