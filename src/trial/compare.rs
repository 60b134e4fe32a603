//! Compares what came with what was wanted: of maps, only the wanted keys count.
//!
//! Stands behind every expectation; gives all differences, each with its place in the test.

use super::seen::{Seen, quoted};
use crate::config::cases::{Located, Place, Want};

/// What differs at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) wanted: String,
    pub(super) got: String,
}

/// Everything in which `got` is not as wanted; `name` is what the value as a whole is called.
pub(super) fn differences(wanted: &Located, got: Option<&Seen>, name: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(wanted, got, name, &mut found);
    found
}

fn compare(wanted: &Located, got: Option<&Seen>, path: &str, found: &mut Vec<Difference>) {
    let same = match (&wanted.want, got) {
        (Want::Exists(exists), got) => *exists == got.is_some(),
        (Want::Null, Some(Seen::Null)) => true,
        (Want::Bool(wanted), Some(Seen::Bool(got))) => wanted == got,
        (Want::Number(wanted), Some(Seen::Number(got)))
        | (Want::Text(wanted), Some(Seen::Text(got))) => wanted == got,
        (Want::Matches(pattern), Some(Seen::Text(text) | Seen::Number(text))) => {
            pattern.is_in(text)
        }
        (Want::List(wanted), Some(Seen::List(got))) if wanted.len() == got.len() => {
            for (index, (wanted, got)) in wanted.iter().zip(got).enumerate() {
                compare(wanted, Some(got), &format!("{path}[{index}]"), found);
            }
            true
        }
        (Want::Map(wanted), Some(got @ Seen::Map(_))) => {
            for (key, wanted) in wanted {
                compare(wanted, got.member(key), &format!("{path}.{key}"), found);
            }
            true
        }
        _ => false,
    };
    if !same {
        found.push(Difference {
            place: wanted.place,
            path: path.to_owned(),
            wanted: shown(&wanted.want),
            got: got.map_or_else(|| "(missing)".into(), Seen::to_string),
        });
    }
}

/// A wanted value as a test may write it.
pub(super) fn shown(want: &Want) -> String {
    match want {
        Want::Null => "null".into(),
        Want::Bool(value) => value.to_string(),
        Want::Number(number) => number.clone(),
        Want::Text(text) => quoted(text),
        Want::List(items) => {
            let items: Vec<_> = items.iter().map(|item| shown(&item.want)).collect();
            format!("[{}]", items.join(","))
        }
        Want::Map(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{}:{}", quoted(key), shown(&value.want)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Want::Matches(pattern) => format!("{{\"$matches\":{}}}", quoted(&pattern.to_string())),
        Want::Exists(exists) => format!("{{\"$exists\":{exists}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { line: 1, column: 1 };

    fn at(want: Want) -> Located {
        Located { place: PLACE, want }
    }

    fn map(members: Vec<(&str, Want)>) -> Want {
        let located = |(key, want): (&str, Want)| (key.to_owned(), at(want));
        Want::Map(members.into_iter().map(located).collect())
    }

    fn paths(wanted: Want, got: &str) -> Vec<String> {
        let found = differences(&at(wanted), Some(&Seen::parse(got)), "event");
        let line = |d: Difference| format!("{} {} {}", d.path, d.wanted, d.got);
        found.into_iter().map(line).collect()
    }

    #[test]
    fn only_wanted_keys_count_and_all_differences_are_told() {
        let number = |n: &str| Want::Number(n.into());
        let wanted = map(vec![
            ("a", number("1.10")),
            ("b", map(vec![("c", Want::Text("x".into()))])),
            ("d", Want::Exists(false)),
        ]);
        let same = r#"{"z":1,"a":1.10,"b":{"c":"x","y":2}}"#;
        assert_eq!(paths(wanted.clone(), same), Vec::<String>::new());
        assert_eq!(
            paths(wanted, r#"{"a":1.1,"b":{},"d":null}"#),
            [
                "event.a 1.10 1.1",
                r#"event.b.c "x" (missing)"#,
                r#"event.d {"$exists":false} null"#
            ]
        );
    }

    #[test]
    fn lists_are_compared_whole_and_kinds_differ() {
        let list = || Want::List(vec![at(Want::Number("1".into())), at(Want::Null)]);
        assert!(paths(list(), "[1,null]").is_empty());
        assert_eq!(paths(list(), "[1]"), ["event [1,null] [1]"]);
        assert_eq!(paths(list(), "[1,2]"), ["event[1] null 2"]);
        assert_eq!(paths(Want::Text("1".into()), "1"), [r#"event "1" 1"#]);
        assert_eq!(paths(map(vec![]), "[]"), ["event {} []"]);
    }
}
