//! Patterns of names: `*` for any text, and placeholders that stand for what is known of the connection.
//!
//! Stands between the rules of `authorize`, read once, and a connection, for which they are filled once. What takes a
//! placeholder's place is literal: a user called `*` is not everybody.

use std::borrow::Cow;

use crate::condition::{BadPointer, Pointer};
use crate::message::decode_string;

/// A pattern as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Box<[Part]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Any,
    UserId,
    Claim(Pointer),
}

/// A text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPattern {
    /// It has a brace that belongs to no placeholder.
    #[error("has a brace that belongs to no placeholder")]
    Brace,
    /// Its pointer to a claim is none.
    #[error("names a claim by a pointer that {0}")]
    Pointer(#[from] BadPointer),
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, BadPattern> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['*', '{', '}']) {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            let found = &rest[at..];
            if let Some(after) = found.strip_prefix('*') {
                parts.push(Part::Any);
                rest = after;
                continue;
            }
            let (name, after) = found
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .ok_or(BadPattern::Brace)?;
            parts.push(match name.strip_prefix("claim:") {
                Some(pointer) => Part::Claim(Pointer::parse(pointer)?),
                None if name == "user_id" => Part::UserId,
                None => return Err(BadPattern::Brace),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts.into()))
    }

    /// The pattern of a connection; none when a placeholder has nothing to stand for.
    pub(super) fn fill(&self, user_id: &str, claims: Option<&str>) -> Option<Pattern> {
        let (mut pieces, mut piece) = (Vec::new(), String::new());
        for part in &self.0 {
            match part {
                Part::Any => pieces.push(std::mem::take(&mut piece).into_boxed_str()),
                Part::Text(text) => piece.push_str(text),
                Part::UserId if user_id.is_empty() => return None,
                Part::UserId => piece.push_str(user_id),
                Part::Claim(pointer) => piece.push_str(&text(pointer.find(claims?)?)?),
            }
        }
        pieces.push(piece.into_boxed_str());
        Some(Pattern(pieces.into()))
    }
}

/// A JSON string's text, or a number's as written; blanks and all else count as absent.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let text = match json.as_bytes().first()? {
        b'"' => decode_string(json)?,
        b'-' | b'0'..=b'9' => Cow::Borrowed(json),
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

/// A pattern of one connection: what stands before, between and after the `*`s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Box<[Box<str>]>);

impl Pattern {
    /// Reads a pattern without placeholders.
    pub(super) fn glob(text: &str) -> Self {
        Self(text.split('*').map(Box::from).collect())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let (first, between, last) = match &*self.0 {
            [] => return text.is_empty(),
            [whole] => return **whole == *text,
            [first, between @ .., last] => (first, between, last),
        };
        let Some(rest) = text.strip_prefix(&**first) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(&**last) else {
            return false;
        };
        // The leftmost place of each is as good as any: what follows has the most room then.
        for piece in between {
            match rest.find(&**piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLAIMS: &str = r#"{"tenant":"acme","n":7,"star":"*","brace":"{user_id}","empty":"","list":["a"],"deep":{"a/b":"x"}}"#;

    fn filled(template: &str, user_id: &str) -> Option<Pattern> {
        Template::parse(template)
            .unwrap()
            .fill(user_id, Some(CLAIMS))
    }

    #[test]
    fn stars_stand_for_any_text_and_all_else_for_itself() {
        for (pattern, text, expected) in [
            ("public:*", "public:news", true),
            ("public:*", "public:", true),
            ("public:*", "Public:news", false),
            ("public:*", "xpublic:news", false),
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*b*", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a.c", "abc", false),
            ("ü*ü", "ü-ü", true),
        ] {
            assert_eq!(
                Pattern::glob(pattern).matches(text),
                expected,
                "{pattern} {text}"
            );
            assert_eq!(
                filled(pattern, "42").unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn placeholders_are_filled_by_literals() {
        for (template, user, text, expected) in [
            ("room:{user_id}:*", "42", "room:42:a", true),
            ("room:{user_id}:*", "42", "room:421:a", false),
            ("room:{user_id}:*", "*", "room:42:a", false),
            ("room:{user_id}:*", "*", "room:*:a", true),
            ("{user_id}", "{claim:/tenant}", "acme", false),
            ("{claim:/tenant}:{claim:/n}", "42", "acme:7", true),
            ("{claim:/star}:x", "42", "anything:x", false),
            ("{claim:/brace}", "42", "42", false),
            ("{claim:/deep/a~1b}", "42", "x", true),
        ] {
            let pattern = filled(template, user).unwrap();
            assert_eq!(
                pattern.matches(text),
                expected,
                "{template} of {user}: {text}"
            );
        }
    }

    #[test]
    fn a_placeholder_without_a_value_matches_nothing() {
        for template in [
            "{claim:/none}*",
            "{claim:/empty}*",
            "{claim:/list}*",
            "{claim:/deep}*",
            "{claim:}*",
        ] {
            assert_eq!(filled(template, "42"), None, "{template}");
        }
        assert_eq!(filled("{user_id}*", ""), None);
        let template = Template::parse("{claim:/tenant}").unwrap();
        assert_eq!(template.fill("42", None), None);
    }

    #[test]
    fn braces_are_placeholders_or_errors() {
        for bad in [
            "{",
            "}",
            "{user}",
            "{user_id",
            "user_id}",
            "{ user_id }",
            "{}",
            "{{user_id}}",
        ] {
            assert_eq!(Template::parse(bad), Err(BadPattern::Brace), "{bad}");
        }
        assert!(matches!(
            Template::parse("{claim:a}"),
            Err(BadPattern::Pointer(_))
        ));
    }

    /// The same by its definition, in exponential time.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            ([p, rest @ ..], [t, text @ ..]) => p == t && slow(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_what_its_definition_matches(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::glob(&pattern).matches(&text), slow(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn no_user_id_reaches_beyond_itself(user in ".{1,12}", text in "[a-z*:{}]{0,12}") {
            let pattern = filled("u:{user_id}", &user).unwrap();
            let expected = text.strip_prefix("u:") == Some(user.as_str());
            prop_assert_eq!(pattern.matches(&text), expected);
        }
    }
}
