//! Takes a variable's value from the file that `NAME_FILE` names, as container images and orchestrators hand out secrets.
//!
//! Stands between the environment and `${NAME}`. Whatever a file says by `${NAME}` can be given like this; a variable
//! that the file itself names, such as `${JWT_PUBLIC_KEY_FILE}`, is a setting of its own and is left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::EnvVars;
use super::document::{Mark, Node, Value};
use super::load;
use super::problem::Problem;

/// What is added to a variable's name.
const SUFFIX: &str = "_FILE";

/// The environment, completed by the files that `NAME_FILE` names for the variables of the document.
///
/// One line break at a file's end is not part of the value, since editors and `echo` write it. The files are given, too.
/// A pipe or a device is refused: a reload would wait for somebody to write it.
pub(super) fn complete(
    root: &Node,
    env: &EnvVars,
    problems: &mut Vec<Problem>,
) -> (EnvVars, Vec<PathBuf>) {
    let mut files = Vec::new();
    let mut named = BTreeMap::new();
    collect(root, &mut named);
    let mut complete = env.clone();
    for (name, at) in &named {
        let file_variable = format!("{name}{SUFFIX}");
        let Some(path) = env.get(&file_variable).filter(|path| !path.is_empty()) else {
            continue;
        };
        if named.contains_key(&file_variable) {
            continue;
        }
        if env.get(name).is_some_and(|value| !value.is_empty()) {
            problems.push(
                Problem::at(
                    *at,
                    "bad_env_file",
                    format!("the environment variables {name} and {file_variable} are both set"),
                )
                .hint("set one of them"),
            );
            continue;
        }
        let file = Path::new(path);
        files.push(file.to_owned());
        let special = file
            .metadata()
            .is_ok_and(|is| !is.is_file() && !is.is_dir());
        let read = if special {
            Err(format!("{path}: it is no regular file"))
        } else {
            load::read(file).map_err(|error| error.to_string())
        };
        match read {
            Ok(text) => {
                let value = text.strip_suffix('\n').unwrap_or(&text);
                let value = value.strip_suffix('\r').unwrap_or(value);
                complete.insert(name.clone(), value.to_owned());
            }
            Err(error) => problems.push(
                Problem::at(
                    *at,
                    "bad_env_file",
                    format!("the environment variable {file_variable} names {error}"),
                )
                .hint(format!(
                    "name a readable file that holds the value of {name}"
                )),
            ),
        }
    }
    (complete, files)
}

/// Collects the variables that a document names, each with the first place that does.
fn collect(node: &Node, named: &mut BTreeMap<String, Mark>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| collect(item, named)),
        Value::Map(entries) => entries.iter().for_each(|entry| collect(&entry.node, named)),
        Value::Text(text) => {
            // `$$` stands for a dollar; names in defaults are found as any others.
            for (at, _) in text.match_indices("${") {
                let escaped = text[..at]
                    .bytes()
                    .rev()
                    .take_while(|byte| *byte == b'$')
                    .count()
                    % 2
                    == 1;
                let name: String = text[at + 2..]
                    .chars()
                    .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
                    .collect();
                if !escaped && !name.is_empty() {
                    named.entry(name).or_insert(node.start);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn completed(text: &str, env: &[(&str, &str)]) -> (EnvVars, Vec<String>) {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut problems = Vec::new();
        let root = yaml::parse(text).root.unwrap();
        let (env, _) = complete(&root, &env, &mut problems);
        (
            env,
            problems
                .into_iter()
                .map(|problem| problem.message)
                .collect(),
        )
    }

    fn file(content: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        let path = path.display().to_string();
        (folder, path)
    }

    #[test]
    fn a_file_gives_the_value_without_its_last_line_break() {
        for (content, value) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
        ] {
            let (_folder, path) = file(content);
            let (env, problems) = completed(
                "a: [x, '${DEEP:-${KEY:-}}']",
                &[("KEY_FILE", &path), ("KEY", "")],
            );
            assert_eq!(env["KEY"], value);
            assert_eq!(problems, [""; 0]);
        }
    }

    #[test]
    fn a_variable_that_the_document_names_is_a_setting_of_its_own() {
        let (_folder, path) = file("x");
        let (env, problems) = completed("a: ${KEY:-}\nb: ${KEY_FILE:-}", &[("KEY_FILE", &path)]);
        assert!(!env.contains_key("KEY"));
        let (env, _) = completed("a: $${KEY}", &[("KEY_FILE", &path)]);
        assert!(!env.contains_key("KEY"), "nothing is expanded there");
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn what_cannot_be_told_is_a_problem_that_holds_no_value() {
        let (folder, path) = file("hidden");
        let (_, problems) = completed("a: ${KEY}", &[("KEY_FILE", &path), ("KEY", "hidden")]);
        assert_eq!(
            problems,
            ["the environment variables KEY and KEY_FILE are both set"]
        );
        let (_, problems) = completed("a: ${KEY}", &[("KEY_FILE", "/nowhere/key")]);
        assert_eq!(
            problems,
            [
                "the environment variable KEY_FILE names /nowhere/key: cannot be read: there is no such file"
            ]
        );
        let (_, problems) = completed("a: ${KEY}", &[("KEY_FILE", "/dev/zero")]);
        assert_eq!(
            problems,
            ["the environment variable KEY_FILE names /dev/zero: it is no regular file"]
        );
        std::fs::write(folder.path().join("binary"), b"\xff\xfe").unwrap();
        let binary = folder.path().join("binary").display().to_string();
        let (_, problems) = completed("a: ${KEY}", &[("KEY_FILE", &binary)]);
        assert!(problems[0].contains("it is not UTF-8 text"), "{problems:?}");
    }
}
