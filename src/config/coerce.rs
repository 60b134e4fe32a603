//! Checks one scalar against its shape, and coerces text that a variable or a flag supplied.
//!
//! Used by validation for every leaf of the tree.

use serde_json::{Number, Value as Json};

use super::document::{Node, Value};
use super::shape::{Kind, Shape, Word};
use super::suggest::{nearest, quoted_list};

/// What is wrong with a value; the caller adds which value and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The code of the problem.
    pub code: &'static str,
    /// What is wrong, to be read after the path.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Quotes a value for a message, unless it is secret.
pub(super) fn quote(shape: &Shape, text: &str) -> String {
    if shape.secret {
        return "a value that is not shown".into();
    }
    let mut shown: String = text
        .chars()
        .take(60)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().count() > 60 {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Coerces a text that came from a variable, a flag or a `${…}`, which can only be text.
pub(super) fn coerce(shape: &Shape, text: &str) -> Result<Json, Complaint> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        if shape.nullable {
            return Ok(Json::Null);
        }
        match (&shape.kind, &shape.default) {
            (Kind::Text(_) | Kind::Scalar | Kind::Free | Kind::Any, _) => {
                return Ok(Json::String(text.to_owned()));
            }
            (
                Kind::Bool | Kind::Integer { .. } | Kind::Number { .. } | Kind::Choice(_),
                Some(default),
            ) => return Ok(default.clone()),
            (Kind::List(_), _) => return Ok(Json::Array(Vec::new())),
            _ => {}
        }
    }
    let unfit = || {
        Complaint::new(
            "wrong_type",
            format!(
                "expects {}, found {}",
                shape.expectation(),
                quote(shape, text)
            ),
        )
    };
    match &shape.kind {
        Kind::Object(_) | Kind::OneKey(_) | Kind::Map(_) => Err(Complaint::new(
            "wrong_type",
            format!("expects {}, found a text", shape.expectation()),
        )),
        Kind::Bool => {
            match trimmed.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok(Json::Bool(true)),
                "0" | "false" | "no" | "off" => Ok(Json::Bool(false)),
                _ => Err(unfit()
                    .hint("write `1` or `0`, `true` or `false`, `yes` or `no`, `on` or `off`")),
            }
        }
        Kind::Integer { .. } => integer(shape, trimmed.parse().map_err(|_| unfit())?),
        Kind::Number { .. } => number(
            shape,
            trimmed
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .ok_or_else(unfit)?,
        ),
        Kind::Choice(words) => choice(shape, words, trimmed),
        Kind::Text(format) => formatted(shape, format.as_deref(), text),
        Kind::List(item) => trimmed
            .split(',')
            .map(|part| coerce(item, part.trim()))
            .collect::<Result<_, _>>()
            .map(Json::Array),
        Kind::Scalar | Kind::Free | Kind::Any => Ok(Json::String(text.to_owned())),
    }
}

/// Checks a scalar that stands in the file as it is.
pub(super) fn literal(shape: &Shape, node: &Node) -> Result<Json, Complaint> {
    let found = || describe(shape, node);
    let unfit = || {
        Complaint::new(
            "wrong_type",
            format!("expects {}, found {}", shape.expectation(), found()),
        )
    };
    match (&shape.kind, &node.value) {
        (Kind::Scalar | Kind::Free, _) => free(&shape.kind, node).ok_or_else(unfit),
        (_, Value::Null) if shape.nullable => Ok(Json::Null),
        (Kind::Object(_) | Kind::Map(_), Value::Null) => Ok(Json::Object(serde_json::Map::new())),
        (Kind::Choice(words), Value::Null) if words.iter().any(|word| word.name == "none") => {
            Err(Complaint::new("wrong_type", "has no value").hint("to switch it off, write `none`"))
        }
        (_, Value::Null) => Err(Complaint::new("wrong_type", "has no value").hint(
            match &shape.default {
                Some(default) if !shape.secret && is_short(default) => format!(
                    "write a value, or remove the key to get the default, `{}`",
                    plain(default)
                ),
                _ => "write a value, or remove the key".into(),
            },
        )),
        (Kind::Bool, Value::Bool(value)) => Ok(Json::Bool(*value)),
        (Kind::Bool, Value::Text(text)) => match coerce(shape, text) {
            Ok(value) => Err(unfit().hint(format!("write `{}`", plain(&value)))),
            Err(_) => Err(unfit()),
        },
        (Kind::Bool, Value::Int(value @ 0..=1)) => {
            Err(unfit().hint(format!("write `{}`", *value == 1)))
        }
        (Kind::Integer { .. }, Value::Int(value)) => integer(shape, *value),
        (Kind::Integer { .. }, Value::Float(value))
            if value.fract() == 0.0 && value.abs() < 1e15 =>
        {
            Err(unfit().hint(format!("write `{value:.0}`")))
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a limit that needs more than 52 bits is out of range anyway"
        )]
        (Kind::Number { .. }, Value::Int(value)) => number(shape, *value as f64),
        (Kind::Number { .. }, Value::Float(value)) if value.is_finite() => number(shape, *value),
        (Kind::Integer { .. } | Kind::Number { .. }, Value::Text(text)) => {
            match coerce(shape, text) {
                Ok(_) if node.quoted && !text.trim().is_empty() => {
                    Err(unfit().hint(format!("remove the quotes: `{}`", text.trim())))
                }
                _ => Err(unfit()),
            }
        }
        (Kind::Choice(words), Value::Text(text)) => choice(shape, words, text),
        (Kind::Choice(words), Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
            choice(shape, words, &node.raw)
        }
        (Kind::Text(format), Value::Text(text)) => formatted(shape, format.as_deref(), text),
        (Kind::Text(_), Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
            Err(unfit().hint(if shape.secret {
                "write it in quotes".into()
            } else {
                format!("write it in quotes: `\"{}\"`", node.raw)
            }))
        }
        (Kind::Text(_) | Kind::Choice(_), Value::List(_)) => {
            Err(unfit().hint("write one value, without `- ` or brackets"))
        }
        (Kind::List(item), Value::Text(text))
            if matches!(item.kind, Kind::Text(_) | Kind::Choice(_)) =>
        {
            Err(unfit().hint(if shape.secret {
                "write it as a list".into()
            } else {
                format!("write it as a list: `[{text}]`")
            }))
        }
        (Kind::Object(_), Value::List(_)) => Err(unfit().hint("remove the `- ` before its keys")),
        _ => Err(unfit()),
    }
}

/// Gives a value as JSON; lists and maps where the key takes them.
fn free(kind: &Kind, node: &Node) -> Option<Json> {
    let nested = matches!(kind, Kind::Free);
    match &node.value {
        // What is broken is reported already.
        Value::Null | Value::Broken => Some(Json::Null),
        Value::Bool(value) => Some(Json::Bool(*value)),
        Value::Int(value) => u64::try_from(*value)
            .map(Number::from)
            .or_else(|_| i64::try_from(*value).map(Number::from))
            .map(Json::Number)
            .ok(),
        Value::Float(value) => Number::from_f64(*value).map(Json::Number),
        Value::Text(text) => Some(Json::String(text.clone())),
        Value::List(items) if nested => items.iter().map(|item| free(kind, item)).collect(),
        Value::Map(entries) if nested => entries
            .iter()
            .map(|entry| Some((entry.key.clone(), free(kind, &entry.node)?)))
            .collect::<Option<_>>()
            .map(Json::Object),
        Value::List(_) | Value::Map(_) => None,
    }
}

fn is_short(value: &Json) -> bool {
    !value.is_object() && !value.is_array() && value != ""
}

fn plain(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn describe(shape: &Shape, node: &Node) -> String {
    let raw = || quote(shape, &node.raw);
    let kind = |text: &str| text.to_owned();
    let takes_scalars = !matches!(shape.kind, Kind::Object(_) | Kind::OneKey(_) | Kind::Map(_));
    if shape.secret || !takes_scalars {
        // What was meant for another key, perhaps a secret, is not repeated.
        match &node.value {
            Value::Bool(_) => return kind("a truth value"),
            Value::Int(_) | Value::Float(_) => return kind("a number"),
            Value::Text(_) => return kind("a text"),
            _ => {}
        }
    }
    match &node.value {
        Value::Float(number) if !number.is_finite() => raw(),
        Value::Null | Value::Broken => "nothing".into(),
        Value::Bool(_) => format!("the truth value {}", raw()),
        Value::Int(_) | Value::Float(_) => format!("the number {}", raw()),
        Value::Text(_) if node.quoted => format!("the quoted text {}", raw()),
        Value::Text(_) => format!("the text {}", raw()),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a map of keys".into(),
    }
}

fn integer(shape: &Shape, value: i128) -> Result<Json, Complaint> {
    if let Kind::Integer { min, max } = shape.kind {
        range(value < min, value > max, &value, &min, &max)?;
    }
    let number = u64::try_from(value)
        .map(Number::from)
        .or_else(|_| i64::try_from(value).map(Number::from));
    number.map(Json::Number).map_err(|_| {
        Complaint::new(
            "out_of_range",
            format!("is {value}, which is far too large"),
        )
    })
}

fn number(shape: &Shape, value: f64) -> Result<Json, Complaint> {
    if let Kind::Number { min, max } = shape.kind {
        range(value < min, value > max, &value, &min, &max)?;
    }
    Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
}

fn range<T: std::fmt::Display>(
    low: bool,
    high: bool,
    value: &T,
    min: &T,
    max: &T,
) -> Result<(), Complaint> {
    match (low, high) {
        (true, _) => Err(Complaint::new(
            "out_of_range",
            format!("is {value}, and must be at least {min}"),
        )),
        (_, true) => Err(Complaint::new(
            "out_of_range",
            format!("is {value}, and must be at most {max}"),
        )),
        _ => Ok(()),
    }
}

fn choice(shape: &Shape, words: &[Word], text: &str) -> Result<Json, Complaint> {
    if words.iter().any(|word| word.name == text) {
        return Ok(Json::String(text.to_owned()));
    }
    let names: Vec<_> = words.iter().map(|word| word.name.as_str()).collect();
    let listed = quoted_list(names.iter().copied());
    let is = if names.len() == 1 {
        "is not"
    } else {
        "is not one of"
    };
    let mut complaint = Complaint::new(
        "unknown_value",
        format!("{} {is} {listed}", quote(shape, text)),
    );
    if let Some(near) = nearest(text, names) {
        complaint = complaint.hint(format!("did you mean `{near}`?"));
    }
    Err(complaint)
}

fn formatted(shape: &Shape, format: Option<&str>, text: &str) -> Result<Json, Complaint> {
    if format == Some("cidr") && text.parse::<ipnet::IpNet>().is_err() {
        let complaint = Complaint::new(
            "invalid_value",
            format!("{} is not a network", quote(shape, text)),
        );
        return Err(match text.parse::<std::net::IpAddr>() {
            Ok(address) => complaint.hint(format!(
                "for this one address write `{address}/{}`",
                if address.is_ipv4() { 32 } else { 128 }
            )),
            Err(_) => complaint.hint("write an address and the length of its prefix: `10.0.0.0/8`"),
        });
    }
    Ok(Json::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape(kind: Kind, default: Json) -> Shape {
        Shape {
            kind,
            nullable: false,
            secret: false,
            lone: false,
            name: String::new(),
            description: String::new(),
            default: Some(default),
        }
    }

    #[test]
    fn text_from_outside_takes_the_type_of_its_key() {
        let flag = shape(Kind::Bool, json!(true));
        for (text, value) in [
            ("1", true),
            ("Yes", true),
            ("off", false),
            (" false ", false),
            ("", true),
        ] {
            assert_eq!(coerce(&flag, text), Ok(json!(value)), "{text:?}");
        }
        let whole = shape(Kind::Integer { min: 0, max: 100 }, json!(7));
        assert_eq!(coerce(&whole, "10"), Ok(json!(10)));
        assert_eq!(coerce(&whole, ""), Ok(json!(7)));
        assert_eq!(coerce(&whole, "1.5").expect_err("no").code, "wrong_type");
        assert_eq!(coerce(&whole, "101").expect_err("no").code, "out_of_range");
        let real = shape(Kind::Number { min: 0.0, max: 9.0 }, json!(1.0));
        assert_eq!(coerce(&real, "2.5"), Ok(json!(2.5)));
        assert_eq!(coerce(&real, "inf").expect_err("no").code, "wrong_type");
        let list = shape(
            Kind::List(Box::new(shape(Kind::Text(None), json!("")))),
            json!([]),
        );
        assert_eq!(coerce(&list, "a, b"), Ok(json!(["a", "b"])));
        assert_eq!(coerce(&list, ""), Ok(json!([])));
    }

    #[test]
    fn secrets_are_not_quoted() {
        let mut secret = shape(Kind::Integer { min: 0, max: 1 }, json!(0));
        secret.secret = true;
        assert!(
            !coerce(&secret, "hunter2")
                .expect_err("no")
                .message
                .contains("hunter2")
        );
    }
}
