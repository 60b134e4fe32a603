//! Resolves a value of the bundle's file: literals, and `%env(…)%` of variables that are set.
//!
//! Symfony may take a variable from a `.env` file or a vault that the gateway's machine does not have. One that
//! is unset here is therefore unknown rather than empty, even where the file names a default.

use crate::config::EnvVars;
use crate::config::document::{Node, Value};

/// What is known of a value.
pub(super) enum Reading {
    /// Nothing: it depends on what only Symfony knows.
    Unknown,
    /// There is none: no such key, or null.
    Unset,
    /// It is this text.
    Text {
        text: String,
        /// The variables it came from.
        variables: Vec<String>,
    },
}

impl Reading {
    /// The text, if it is known and there is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text { text, .. } => Some(text),
            Self::Unknown | Self::Unset => None,
        }
    }

    /// Tells whether a switch is on; `unset` is what it is when the file does not say.
    pub(super) fn switch(&self, unset: bool) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Unset => Some(unset),
            Self::Text { text, .. } => Some(is_true(text)),
        }
    }

    /// Says which variables the value came from, to be put after it in a message.
    pub(super) fn provenance(&self) -> String {
        match self {
            Self::Text { variables, .. } => match variables.as_slice() {
                [] => String::new(),
                [one] => format!(" (from environment variable {one})"),
                several => format!(" (from environment variables {})", several.join(", ")),
            },
            Self::Unknown | Self::Unset => String::new(),
        }
    }
}

/// Reads `node`, whose `%env(…)%` are taken from `env`.
pub(super) fn read(node: &Node, env: &EnvVars) -> Reading {
    match &node.value {
        Value::Null => Reading::Unset,
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => Reading::Text {
            text: node.raw.clone(),
            variables: Vec::new(),
        },
        Value::Text(text) => resolve(text, env),
        Value::List(_) | Value::Map(_) | Value::Broken => Reading::Unknown,
    }
}

fn resolve(text: &str, env: &EnvVars) -> Reading {
    let mut resolved = String::with_capacity(text.len());
    let mut variables = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        resolved.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            resolved.push('%');
            rest = after;
            continue;
        }
        // As in Symfony, what is no reference stays as it is written.
        let Some((inner, after)) = rest
            .split_once('%')
            .filter(|(inner, _)| !inner.contains(char::is_whitespace))
        else {
            resolved.push('%');
            continue;
        };
        let Some(expression) = inner
            .strip_prefix("env(")
            .and_then(|inner| inner.strip_suffix(')'))
        else {
            return Reading::Unknown;
        };
        match variable(expression, env) {
            Variable::Unknown => return Reading::Unknown,
            Variable::Null if text.len() == inner.len() + 2 => return Reading::Unset,
            Variable::Null => {}
            Variable::Text(value) => resolved.push_str(&value),
        }
        variables.extend(expression.rsplit(':').next().map(String::from));
        rest = after;
    }
    resolved.push_str(rest);
    Reading::Text {
        text: resolved,
        variables,
    }
}

/// What an environment variable, and what processors make of it, is.
enum Variable {
    Unknown,
    Null,
    Text(String),
}

/// Follows an expression such as `bool:default::NAME`, whose processors apply from the right.
fn variable(expression: &str, env: &EnvVars) -> Variable {
    let Some((processor, rest)) = expression.split_once(':') else {
        return env
            .get(expression)
            .map_or(Variable::Unknown, |value| Variable::Text(value.clone()));
    };
    if processor == "default" {
        let Some((fallback, rest)) = rest.split_once(':') else {
            return Variable::Unknown;
        };
        return match variable(rest, env) {
            Variable::Text(text) if !text.is_empty() => Variable::Text(text),
            Variable::Text(_) | Variable::Null if fallback.is_empty() => Variable::Null,
            // The fallback names a parameter of the container.
            _ => Variable::Unknown,
        };
    }
    let text = match variable(rest, env) {
        Variable::Unknown => return Variable::Unknown,
        Variable::Null => String::new(),
        Variable::Text(text) => text,
    };
    match processor {
        "string" => Variable::Text(text),
        "trim" => Variable::Text(text.trim().to_owned()),
        "bool" => Variable::Text(is_true(&text).to_string()),
        "int" => text.parse::<i64>().map_or(Variable::Unknown, |number| {
            Variable::Text(number.to_string())
        }),
        _ => Variable::Unknown,
    }
}

/// Reads a switch as Symfony's `bool` processor does: `true`, `on`, `yes` and numbers other than 0.
fn is_true(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    matches!(text.as_str(), "true" | "on" | "yes")
        || text.parse::<f64>().is_ok_and(|number| number != 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text; `(unset)` or `(unknown)` where there is none.
    fn resolved(text: &str) -> String {
        let env = EnvVars::from([
            ("A".into(), "a".into()),
            ("EMPTY".into(), String::new()),
            ("ON".into(), "On".into()),
            ("ZERO".into(), "0".into()),
            ("PADDED".into(), " x ".into()),
        ]);
        match resolve(text, &env) {
            Reading::Unknown => "(unknown)".into(),
            Reading::Unset => "(unset)".into(),
            Reading::Text { text, .. } => text,
        }
    }

    #[test]
    fn set_variables_are_resolved() {
        for (text, expected) in [
            ("%env(A)%", "a"),
            ("http://%env(A)%:%env(ZERO)%/", "http://a:0/"),
            ("%env(EMPTY)%", ""),
            ("%env(string:A)%", "a"),
            ("%env(default::A)%", "a"),
            ("%env(string:default:fallback:A)%", "a"),
            ("%env(bool:ON)%", "true"),
            ("%env(bool:ZERO)%", "false"),
            ("%env(bool:default::EMPTY)%", "false"),
            ("%env(int:ZERO)%", "0"),
            ("%env(trim:PADDED)%", "x"),
        ] {
            assert_eq!(resolved(text), expected, "{text}");
        }
    }

    #[test]
    fn an_empty_variable_takes_its_default() {
        assert_eq!(resolved("%env(default::EMPTY)%"), "(unset)");
        assert_eq!(resolved("x%env(default::EMPTY)%"), "x");
        assert_eq!(resolved("%env(default:fallback:EMPTY)%"), "(unknown)");
    }

    #[test]
    fn what_only_symfony_knows_is_unknown() {
        for text in [
            "%env(NO)%",
            "%env(default::NO)%",
            "%env(bool:NO)%",
            "x%env(NO)%",
            "%env(base64:A)%",
            "%env(int:A)%",
            "%env(default:A)%",
            "%env()%",
            "%kernel.environment%",
        ] {
            assert_eq!(resolved(text), "(unknown)", "{text}");
        }
    }

    #[test]
    fn percent_signs_that_are_meant() {
        assert_eq!(resolved("100%"), "100%");
        assert_eq!(resolved("%%env(A)%%"), "%env(A)%");
        assert_eq!(resolved("5 % of %env(A)%"), "5 % of a");
    }
}
