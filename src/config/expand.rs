//! Expands `${NAME}` and `${NAME:-default}` in the values of a file.
//!
//! Stands between the YAML reader and the layers. It works on parsed values rather than on the text, so that
//! a variable can never change the file's structure and every value keeps its place.

use super::EnvVars;
use super::document::{Mark, Node, Value, Variable};
use super::problem::Problem;

/// Defaults may hold further `${…}`, this deep.
const MAX_DEPTH: usize = 8;

/// Expands every scalar below `node`; one that cannot be expanded becomes [`Value::Broken`].
pub(super) fn expand(node: &mut Node, env: &EnvVars, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::List(items) => {
            for item in items {
                expand(item, env, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                expand(&mut entry.node, env, problems);
            }
        }
        Value::Text(text) if text.contains('$') => {
            let mut variables = Vec::new();
            match expand_text(text, env, &mut variables, 0) {
                Ok(expanded) => node.value = Value::Text(expanded),
                Err(failure) => {
                    problems.push(failure.into_problem(node.start));
                    node.value = Value::Broken;
                }
            }
            node.variables = variables;
        }
        _ => {}
    }
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    Unset(String),
    Unterminated,
    BadName,
    TooDeep,
}

impl Failure {
    fn into_problem(self, at: Mark) -> Problem {
        match self {
            Self::Unset(name) => Problem::at(at, "missing_env", format!("the environment variable {name} is not set"))
                .hint(format!("set {name}, or give a default: `${{{name}:-value}}`")),
            Self::Unterminated => Problem::at(at, "bad_expansion", "`${` is opened and never closed")
                .hint("write `${NAME}` or `${NAME:-default}`; a literal `$` is written `$$`"),
            // What stands in the braces is not repeated: it may be a secret somebody put there.
            Self::BadName => Problem::at(at, "bad_expansion", "a `${…}` does not name a variable")
                .hint("write `${NAME}` or `${NAME:-default}`, with letters, digits and `_`; a literal `$` is written `$$`"),
            Self::TooDeep => Problem::at(at, "bad_expansion", format!("`${{…}}` nests more than {MAX_DEPTH} levels")),
        }
    }
}

fn expand_text(
    text: &str,
    env: &EnvVars,
    variables: &mut Vec<Variable>,
    depth: usize,
) -> Result<String, Failure> {
    if depth > MAX_DEPTH {
        return Err(Failure::TooDeep);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing_brace(after).ok_or(Failure::Unterminated)?;
            expanded.push_str(&expand_variable(&after[..end], env, variables, depth)?);
            rest = &after[end + 1..];
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn expand_variable(
    inner: &str,
    env: &EnvVars,
    variables: &mut Vec<Variable>,
    depth: usize,
) -> Result<String, Failure> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !well_formed {
        return Err(Failure::BadName);
    }
    let set = env.get(name);
    let value = match default {
        Some(default) => {
            if let Some(value) = set.filter(|value| !value.is_empty()) {
                value.clone()
            } else {
                variables.push(Variable {
                    name: name.to_owned(),
                    used: false,
                });
                expand_text(default, env, variables, depth + 1)?
            }
        }
        None => set
            .cloned()
            .ok_or_else(|| Failure::Unset(name.to_owned()))?,
    };
    if !variables.iter().any(|variable| variable.name == name) {
        variables.push(Variable {
            name: name.to_owned(),
            used: true,
        });
    }
    Ok(value)
}

/// Finds the `}` that closes a `${`, past those of nested ones.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' if text[..at].ends_with('$') => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Failure> {
        let env = EnvVars::from([
            ("A".into(), "1".into()),
            ("EMPTY".into(), String::new()),
            ("B_2".into(), "${A}".into()),
        ]);
        expand_text(text, &env, &mut Vec::new(), 0)
    }

    #[test]
    fn variables_and_defaults() {
        assert_eq!(expanded("${A}").as_deref(), Ok("1"));
        assert_eq!(
            expanded("x${A}y${B_2}").as_deref(),
            Ok("x1y${A}"),
            "values are not expanded again"
        );
        assert_eq!(expanded("${NO:-d}").as_deref(), Ok("d"));
        assert_eq!(expanded("${EMPTY:-d}").as_deref(), Ok("d"), "as in shells");
        assert_eq!(expanded("${EMPTY}").as_deref(), Ok(""));
        assert_eq!(expanded("${NO:-}").as_deref(), Ok(""));
        assert_eq!(expanded("${NO:-${A}}-").as_deref(), Ok("1-"));
        assert_eq!(expanded("${NO:-http://x:1/}").as_deref(), Ok("http://x:1/"));
    }

    #[test]
    fn dollars_that_are_meant() {
        assert_eq!(expanded("$${A} $5 $").as_deref(), Ok("${A} $5 $"));
    }

    #[test]
    fn mistakes() {
        assert_eq!(expanded("${NO}"), Err(Failure::Unset("NO".into())));
        assert_eq!(expanded("${A"), Err(Failure::Unterminated));
        assert_eq!(expanded("${}"), Err(Failure::BadName));
        assert_eq!(expanded("${A-x}"), Err(Failure::BadName));
        let deep = format!("{}{}", "${NO:-".repeat(20), "}".repeat(20));
        assert_eq!(expanded(&deep), Err(Failure::TooDeep));
    }
}
