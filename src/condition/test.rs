//! One value against what a test asks of it.
//!
//! Stands at the end of a condition: a value is JSON text, or a header's plain text.

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Test;
use crate::message::decode_string;

/// Bytes that a compiled regular expression may take.
const PATTERN_BYTES: usize = 256 * 1024;

/// A compiled [`Test`].
#[derive(Debug, Clone)]
pub struct Check(Asked);

#[derive(Debug, Clone)]
enum Asked {
    OneOf(Box<[Wanted]>),
    Contains(Wanted),
    Matches(Regex),
    Exists(bool),
}

/// A value that another is compared with.
#[derive(Debug, Clone)]
enum Wanted {
    Text(Box<str>),
    /// The number as written, and by value.
    Number(Box<str>, Decimal),
    /// `true`, `false` or `null`.
    Word(&'static str),
}

/// Why a test cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadTest {
    /// Not exactly one operator.
    Operators(usize),
    /// The regular expression is wrong or too large.
    Pattern(String),
}

impl Check {
    pub(super) fn new(test: &Test) -> Result<Self, BadTest> {
        let Test {
            equals,
            one_of,
            contains,
            matches,
            exists,
        } = test;
        let wanted = |scalar: &super::Scalar| Wanted::new(&scalar.0);
        let asked = [
            equals
                .as_ref()
                .map(|one| Ok(Asked::OneOf([wanted(one)].into()))),
            one_of
                .as_ref()
                .map(|list| Ok(Asked::OneOf(list.iter().map(wanted).collect()))),
            contains
                .as_ref()
                .map(|one| Ok(Asked::Contains(wanted(one)))),
            matches
                .as_deref()
                .map(|text| pattern(text).map(Asked::Matches)),
            exists.map(|there| Ok(Asked::Exists(there))),
        ];
        let mut given = asked.into_iter().flatten();
        match (given.next(), given.count()) {
            (Some(asked), 0) => asked.map(Self),
            (first, more) => Err(BadTest::Operators(usize::from(first.is_some()) + more)),
        }
    }

    /// Whether a value, as JSON text if it is there, is what is asked for.
    #[must_use]
    pub fn holds(&self, json: Option<&str>) -> bool {
        match (&self.0, json) {
            (Asked::Exists(there), json) => json.is_some() == *there,
            (_, None) => false,
            (Asked::OneOf(list), Some(json)) => list.iter().any(|wanted| wanted.is(json)),
            (Asked::Contains(wanted), Some(json)) => {
                json.starts_with('[')
                    && serde_json::from_str::<Vec<&RawValue>>(json)
                        .is_ok_and(|list| list.iter().any(|item| wanted.is(item.get())))
            }
            (Asked::Matches(regex), Some(json)) => {
                json.starts_with('"')
                    && decode_string(json).is_some_and(|text| regex.is_match(&text))
            }
        }
    }

    /// Whether a plain text, if it is there, is what is asked for.
    #[must_use]
    pub fn holds_of_text(&self, text: Option<&str>) -> bool {
        match (&self.0, text) {
            (Asked::Exists(there), text) => text.is_some() == *there,
            (Asked::OneOf(list), Some(text)) => list
                .iter()
                .any(|wanted| matches!(wanted, Wanted::Text(wanted) if **wanted == *text)),
            (Asked::Matches(regex), Some(text)) => regex.is_match(text),
            (Asked::Contains(_), _) | (_, None) => false,
        }
    }
}

fn pattern(text: &str) -> Result<Regex, BadTest> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES)
        .build()
        .map_err(|error| {
            // The library draws the pattern over several lines; the last says what is wrong.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let reason = last.trim().trim_start_matches("error: ").to_owned();
            BadTest::Pattern(reason)
        })
}

impl Wanted {
    fn new(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Number(number) => {
                let text = number.to_string();
                let value = Decimal::parse(&text);
                Self::Number(text.into(), value)
            }
            Value::Bool(true) => Self::Word("true"),
            Value::Bool(false) => Self::Word("false"),
            // Validation lets no list and no map come here.
            Value::Null | Value::Array(_) | Value::Object(_) => Self::Word("null"),
        }
    }

    /// Whether JSON text is this value.
    fn is(&self, json: &str) -> bool {
        match self {
            Self::Text(wanted) => {
                json.starts_with('"') && decode_string(json).is_some_and(|text| *text == **wanted)
            }
            Self::Word(word) => json == *word,
            Self::Number(text, value) => {
                if json == &**text {
                    return true;
                }
                if !json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                    return false;
                }
                // Integers are written in one way only, but for zero.
                let plain = |text: &str| !text.contains(['.', 'e', 'E']) && text != "-0";
                !(plain(text) && plain(json)) && Decimal::parse(json) == *value
            }
        }
    }
}

/// A number by its value: what `1`, `1.0` and `10e-1` have in common, however many digits there are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// Without zeros at either end.
    digits: Box<str>,
    /// Power of ten that the digits are multiplied by; none where it is beyond counting.
    exponent: Option<i64>,
}

impl Decimal {
    /// Reads a JSON number.
    fn parse(text: &str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        let significant = digits.trim_end_matches('0');
        let dropped = digits.len() - significant.len();
        let significant = significant.trim_start_matches('0');
        if significant.is_empty() {
            return Self {
                negative: false,
                digits: "".into(),
                exponent: Some(0),
            };
        }
        let count = |length: usize| i64::try_from(length).ok();
        let exponent = exponent.parse::<i64>().ok().and_then(|exponent| {
            exponent
                .checked_sub(count(fraction.len())?)?
                .checked_add(count(dropped)?)
        });
        Self {
            negative,
            digits: significant.into(),
            exponent,
        }
    }
}
