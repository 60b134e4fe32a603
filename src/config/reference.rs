//! Writes the configuration reference, `docs/configuration.md`, from the shapes of the schema.
//!
//! The text of each key is the doc comment of its field, so that the page cannot drift from the structs.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::shape::{Kind, Shape};

const INTRODUCTION: &str = "# Configuration reference

<!-- Generated from the config structs; refresh with `UPDATE_DOCS=1 cargo test --test config`. -->

A pipeline file is YAML with the one root key `snoke_ws`. The keys below are relative to it, and are what
`--set path.to.key=value` takes; the variable of `server.listen` is `WSGW__SERVER__LISTEN`. A stage is
addressed as `stages.<name>.<key>`, or shorter as `<name>.<key>`.

What counts, lowest first: the default, the file with its `${NAME}`, `WSGW__` variables, `--set` flags.
`wsgw explain FILE` shows every effective value and where it came from.

In the file, `${NAME}` takes a variable's value and `${NAME:-default}` gives a default for one that is unset or
empty; `$$` is a literal `$`. What comes from a variable takes the type of its key: `1`, `true`, `yes` and `on`
are true, `0`, `false`, `no` and `off` are false, a list is `a,b` or `[a, b]`, and an empty value of a number,
of a switch or of a word is the default. Where `NAME_FILE` is set instead of `NAME`, the value is what that file holds,
without its last line break; so every secret can be given as a file.
";

/// Renders the reference of the `document` shape.
#[must_use]
pub fn render(document: &Shape) -> String {
    let mut page = INTRODUCTION.to_owned();
    let Some(root) = document.fields().first() else {
        return page;
    };
    let (sections, singles): (Vec<_>, Vec<_>) = root
        .shape
        .fields()
        .iter()
        .partition(|field| is_section(&field.shape));
    heading(&mut page, 2, "The root key", &root.shape.description);
    table(
        &mut page,
        "",
        singles
            .iter()
            .map(|field| (field.name.as_str(), &field.shape)),
    );
    for field in sections {
        if let Kind::List(item) = &field.shape.kind {
            heading(
                &mut page,
                2,
                &format!("`{}`", field.name),
                &field.shape.description,
            );
            for stage in item.fields() {
                section(
                    &mut page,
                    3,
                    &format!("stages.{}", stage.name),
                    &stage.shape,
                );
            }
        } else {
            section(&mut page, 2, &field.name, &field.shape);
        }
    }
    for (title, name, means) in SHARED {
        if let Some(shape) = named(&root.shape, name) {
            heading(&mut page, 2, title, means);
            let rows = shape.fields().iter();
            table(
                &mut page,
                "",
                rows.map(|field| (field.name.as_str(), &field.shape)),
            );
        }
    }
    page
}

/// Types that stand in many places and have a table of their own: its title, the type's name, what it is.
const SHARED: [(&str, &str, &str); 4] = [
    (
        "Conditions",
        "Condition",
        "What `when` asks of a message and of its connection. All that is given must hold. What asks for `type` or `json` \
         never holds of `connected` and `disconnected`, which have no message.",
    ),
    (
        "Tests",
        "Test",
        "What a condition asks of one value: exactly one of these.",
    ),
    (
        "Routes",
        "RouteConfig",
        "The sinks that events go to for which a condition holds.",
    ),
    (
        "Fields",
        "FieldSource",
        "Where the value of a field of `set` comes from: exactly one of `claim`, `header`, `value`.",
    ),
];

/// Finds a shape by its type's name.
fn named<'a>(shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    if shape.name == name {
        return Some(shape);
    }
    let inner = match &shape.kind {
        Kind::List(item) | Kind::Map(item) => named(item, name),
        _ => None,
    };
    inner.or_else(|| {
        let mut fields = shape.fields().iter();
        fields.find_map(|field| named(&field.shape, name))
    })
}

/// A link to the table of a type that has one; a plain condition's is that of conditions.
fn link(shape: &Shape) -> Option<String> {
    let name = shape.name.strip_prefix("Plain").unwrap_or(&shape.name);
    let (title, ..) = SHARED.iter().find(|(_, shared, _)| *shared == name)?;
    let anchor = title.to_lowercase();
    let word = anchor.trim_end_matches('s');
    Some(if shape.name == name {
        format!("[{word}](#{anchor})")
    } else {
        format!("[{word}](#{anchor}) without `any` and `not`")
    })
}

fn is_section(shape: &Shape) -> bool {
    match &shape.kind {
        _ if link(shape).is_some() => false,
        Kind::Object(_) => true,
        Kind::List(item) => matches!(item.kind, Kind::OneKey(_)),
        _ => false,
    }
}

fn heading(page: &mut String, level: usize, title: &str, description: &str) {
    let _ = write!(page, "\n{} {title}\n\n{description}\n", "#".repeat(level));
}

fn section(page: &mut String, level: usize, path: &str, shape: &Shape) {
    heading(page, level, &format!("`{path}`"), &shape.description);
    let (sections, singles): (Vec<_>, Vec<_>) = shape
        .fields()
        .iter()
        .partition(|field| is_section(&field.shape));
    table(
        page,
        path,
        singles
            .iter()
            .map(|field| (field.name.as_str(), &field.shape)),
    );
    for field in sections {
        section(
            page,
            (level + 1).min(4),
            &format!("{path}.{}", field.name),
            &field.shape,
        );
    }
}

fn table<'a>(page: &mut String, path: &str, rows: impl Iterator<Item = (&'a str, &'a Shape)>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    page.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for (name, shape) in rows {
        let key = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        let mut meaning = cell(&shape.description);
        for word in words(shape)
            .into_iter()
            .flatten()
            .filter(|word| !word.description.is_empty())
        {
            let _ = write!(meaning, "<br>`{}`: {}", word.name, cell(&word.description));
        }
        let _ = writeln!(
            page,
            "| `{key}` | {} | {} | {meaning} |",
            value(shape),
            default(shape)
        );
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn words(shape: &Shape) -> Option<&[super::shape::Word]> {
    match &shape.kind {
        Kind::Choice(words) => Some(words),
        Kind::List(item) => words(item),
        _ => None,
    }
}

fn value(shape: &Shape) -> String {
    if let Some(link) = link(shape) {
        return link;
    }
    let kind = match &shape.kind {
        Kind::Text(_) if shape.secret => "secret text".into(),
        Kind::Text(Some(format)) if format == "cidr" => "network".into(),
        Kind::Text(_) => "text".into(),
        Kind::Bool => "`true`, `false`".into(),
        Kind::Integer { min, max } => bounds(
            "whole number",
            *min,
            *max,
            *max >= i128::from(u32::MAX) && max & (max + 1) == 0,
        ),
        Kind::Number { min, max } => bounds("number", *min, *max, *max >= f64::MAX),
        Kind::Choice(words) => words
            .iter()
            .map(|word| format!("`{}`", word.name))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::List(item) if shape.lone => format!("{}, or a list", value(item)),
        Kind::List(item) => format!("list of {}", value(item)),
        Kind::Map(inner) if link(inner).is_some() => format!("map to {}", value(inner)),
        Kind::Object(_) | Kind::OneKey(_) | Kind::Map(_) => "map".into(),
        Kind::Scalar => "text, number, `true`, `false`, `null`".into(),
        Kind::Free | Kind::Any => "anything".into(),
    };
    if shape.nullable {
        format!("{kind}, or empty")
    } else {
        kind
    }
}

fn bounds<T: std::fmt::Display>(kind: &str, min: T, max: T, open: bool) -> String {
    if open {
        format!("{kind} from {min}")
    } else {
        format!("{kind} from {min} to {max}")
    }
}

fn default(shape: &Shape) -> String {
    match &shape.default {
        None | Some(Json::Null) => "empty".into(),
        Some(Json::String(text)) if text.is_empty() => "empty".into(),
        Some(Json::String(text)) => format!("`{text}`"),
        Some(Json::Array(items)) if items.is_empty() => "empty".into(),
        Some(Json::Object(fields)) if fields.is_empty() => "empty".into(),
        Some(Json::Array(items)) => items
            .iter()
            .map(|item| {
                format!(
                    "`{}`",
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                )
            })
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => format!("`{other}`"),
    }
}
