//! Reads YAML text into a [`Node`] tree, with every problem the text itself has.
//!
//! Stands first in loading. It walks the events of serde-saphyr's own parser rather than deserialising into
//! `Spanned<T>`: the events keep whether a scalar is quoted (`"10"` is not `10`), keep a number as it is
//! written, and let the reader go on after a duplicate key, so that all of them are reported at once.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{
    Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};

use super::document::{Entry, Mark, Node, Value};
use super::problem::Problem;
use super::syntax;

/// Nodes a file may have after its aliases are expanded; a pipeline file has some hundreds.
const MAX_NODES: usize = 20_000;
/// Levels a file may nest; a pipeline file has less than ten.
const MAX_DEPTH: usize = 48;
/// Bytes of text that are read at most.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// What reading a text gave: a tree if there is one to go on with, and the problems.
#[derive(Debug)]
pub(super) struct Parsed {
    /// The root, unless the text is not YAML at all.
    pub root: Option<Node>,
    /// Everything wrong with the text.
    pub problems: Vec<Problem>,
}

/// Reads `text`, which must hold one document.
#[must_use]
pub(super) fn parse(text: &str) -> Parsed {
    let mut problems = Vec::new();
    if text.len() > MAX_BYTES {
        problems.push(Problem::at(
            Mark::START,
            "too_large",
            format!(
                "the file has {} bytes; a pipeline file may have {MAX_BYTES}",
                text.len()
            ),
        ));
        return Parsed {
            root: None,
            problems,
        };
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        problems: &mut problems,
    };
    let root = match reader.document() {
        Ok(root) => root,
        Err(Stop::Scan(error)) => {
            problems.push(syntax::explain(text, &error));
            None
        }
        Err(Stop::Said(problem)) => {
            problems.push(problem);
            None
        }
    };
    Parsed { root, problems }
}

/// Why reading ended before the text did.
enum Stop {
    Scan(ScanError),
    Said(Problem),
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

struct Reader<'input, 'problems> {
    parser: Parser<'input, StrInput<'input>>,
    /// Anchored nodes and how many nodes each stands for.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    problems: &'problems mut Vec<Problem>,
}

pub(super) fn mark(marker: Marker) -> Mark {
    Mark {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

impl<'input> Reader<'input, '_> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event?;
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    self.problems.push(
                        Problem::at(mark(span.start), "second_document", "a second YAML document begins here")
                            .hint("a pipeline file holds one document; remove the `---` and what follows, or move it to a file of its own"),
                    );
                    return Ok(root);
                }
                Event::DocumentStart(..) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {}
            }
        }
        Ok(root)
    }

    /// The next event that is data; comments are not.
    fn next(&mut self) -> Result<(Event<'input>, Span), Stop> {
        loop {
            match self.parser.next_event() {
                Some(Ok((event, span))) => {
                    if matches!(
                        event,
                        Event::Scalar(..)
                            | Event::Alias(_)
                            | Event::SequenceStart(..)
                            | Event::SequenceEnd
                            | Event::MappingStart(..)
                            | Event::MappingEnd
                    ) {
                        return Ok((event, span));
                    }
                }
                Some(Err(error)) => return Err(error.into()),
                None => {
                    return Err(Stop::Said(Problem::at(
                        Mark::START,
                        "yaml_syntax",
                        "the file ends in the middle of a value",
                    )));
                }
            }
        }
    }

    fn count(&mut self, nodes: usize, at: Mark) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(Stop::Said(
                Problem::at(
                    at,
                    "too_large",
                    format!(
                        "the file has more than {MAX_NODES} values once its aliases are expanded"
                    ),
                )
                .hint("aliases (`*name`) of aliases grow quickly; write the values out"),
            ));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'input>, span: Span, depth: usize) -> Result<Node, Stop> {
        let start = mark(span.start);
        if depth > MAX_DEPTH {
            return Err(Stop::Said(Problem::at(
                start,
                "too_large",
                format!("the file nests more than {MAX_DEPTH} levels"),
            )));
        }
        self.count(1, start)?;
        let before = self.nodes;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, tag.as_deref(), span), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), start);
                (self.list(span, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), start);
                (self.map(span, depth)?, anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(Stop::Said(
                        Problem::at(
                            start,
                            "yaml_syntax",
                            "an alias stands inside the value it names",
                        )
                        .hint("write the value out instead of `*name`"),
                    ));
                };
                self.count(size, start)?;
                (
                    Node {
                        start,
                        end: mark(span.end),
                        ..node
                    },
                    0,
                )
            }
            _ => {
                return Err(Stop::Said(Problem::at(
                    start,
                    "yaml_syntax",
                    "a value is missing here",
                )));
            }
        };
        if anchor > 0 {
            self.anchors
                .insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }

    fn list(&mut self, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut items = Vec::new();
        let end = loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break mark(span.end);
            }
            items.push(self.node(event, span, depth + 1)?);
        };
        Ok(collection(Value::List(items), mark(span.start), end))
    }

    fn map(&mut self, span: Span, depth: usize) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let end = loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break mark(span.end);
            }
            let key_start = mark(span.start);
            let key = match event {
                Event::Scalar(text, ..) => Some(text.into_owned()),
                // The key is read all the same, to stay in step with the events.
                other => {
                    self.node(other, span, depth + 1)?;
                    None
                }
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            let Some(key) = key else {
                self.problems.push(
                    Problem::at(
                        key_start,
                        "bad_key",
                        "a key must be a plain word, not a list, a map or an alias",
                    )
                    .hint("a value that begins with `{`, `[` or `*` must be quoted to be a text"),
                );
                continue;
            };
            if key == "<<" {
                self.merge(node, &mut merged);
            } else if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                self.problems.push(
                    Problem::at(
                        key_start,
                        "duplicate_key",
                        format!(
                            "the key `{key}` is written twice; the first is on line {}",
                            first.key_start.line
                        ),
                    )
                    .hint("remove one of the two"),
                );
            } else {
                entries.push(Entry {
                    key,
                    key_start,
                    node,
                });
            }
        };
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(collection(Value::Map(entries), mark(span.start), end))
    }

    /// Takes what a `<<: *anchor` merges in; a map's own keys win later.
    fn merge(&mut self, node: Node, merged: &mut Vec<Entry>) {
        match node.value {
            Value::Map(entries) => merged.extend(entries),
            Value::List(items) => {
                for item in items {
                    self.merge(item, merged);
                }
            }
            _ => self.problems.push(
                Problem::at(
                    node.start,
                    "bad_key",
                    "`<<` merges maps, and this is not a map",
                )
                .hint("write `<<: *name` with `&name` at a map above"),
            ),
        }
    }

    /// Reports a tag that is not YAML's own, and tells whether there was one.
    fn refuse_tag(&mut self, tag: Option<&Tag>, at: Mark) -> bool {
        let tag = tag.filter(|tag| !tag.is_yaml_core_schema());
        if let Some(tag) = tag {
            self.problems.push(
                Problem::at(
                    at,
                    "unsupported_tag",
                    format!("the tag `{}` means nothing here", tag.original()),
                )
                .hint("a text that begins with `!` must be quoted"),
            );
        }
        tag.is_some()
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let start = mark(span.start);
        let refused = self.refuse_tag(tag, start);
        let quoted = style != ScalarStyle::Plain
            || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        Node {
            value: match (refused, quoted) {
                (true, _) => Value::Broken,
                (false, true) => Value::Text(text.to_owned()),
                (false, false) => plain(text),
            },
            raw: text.to_owned(),
            quoted,
            variables: Vec::new(),
            start,
            end: mark(span.end),
        }
    }
}

fn collection(value: Value, start: Mark, end: Mark) -> Node {
    Node {
        value,
        raw: String::new(),
        quoted: false,
        variables: Vec::new(),
        start,
        end,
    }
}

/// Gives a plain scalar its type by YAML 1.2's core schema (section 10.3.2).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let radix = |digits: Option<&str>, radix| {
        digits.and_then(|digits| i128::from_str_radix(digits, radix).ok())
    };
    if let Some(number) =
        radix(text.strip_prefix("0x"), 16).or_else(|| radix(text.strip_prefix("0o"), 8))
    {
        return Value::Int(number);
    }
    // Rust's own parser also takes `inf` and `nan`, which YAML does not.
    let numeric = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'))
        && text.contains(|c: char| c.is_ascii_digit());
    if numeric {
        if let Ok(number) = text.parse::<i128>() {
            return Value::Int(number);
        }
        if let Ok(number) = text.parse::<f64>() {
            return Value::Float(number);
        }
    }
    Value::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::KeyPath;

    fn codes(text: &str) -> Vec<&'static str> {
        parse(text)
            .problems
            .iter()
            .map(|problem| problem.code)
            .collect()
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let root = parse("a:\n  - b: {c: 1}\n  - é: 'x'\n")
            .root
            .expect("valid");
        let (key, node) = root
            .find(&KeyPath::of(["a", "0", "b", "c"]))
            .expect("found");
        assert_eq!((key.line, key.column), (2, 9));
        assert_eq!((node.start.line, node.start.column), (2, 12));
        let (key, node) = root.find(&KeyPath::of(["a", "1", "é"])).expect("found");
        assert_eq!((key.column, node.start.column, node.quoted), (5, 8, true));
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        assert_eq!(plain("10"), Value::Int(10));
        assert_eq!(plain("-0x1"), Value::Text("-0x1".into()));
        assert_eq!(plain("0x1f"), Value::Int(31));
        assert_eq!(plain("1e3"), Value::Float(1000.0));
        assert_eq!(plain("yes"), Value::Text("yes".into()));
        assert_eq!(plain("inf"), Value::Text("inf".into()));
        assert_eq!(plain("-"), Value::Text("-".into()));
        assert_eq!(plain(""), Value::Null);
    }

    #[test]
    fn every_duplicate_key_is_reported() {
        assert_eq!(
            codes("a: 1\na: 2\nb: {c: 1, c: 2}\n"),
            ["duplicate_key", "duplicate_key"]
        );
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = level - 1;
            let aliases = vec![format!("*a{previous}"); 10].join(", ");
            text = format!("{text}a{level}: &a{level} [{aliases}]\n");
        }
        assert_eq!(codes(&text), ["too_large"]);
        assert_eq!(codes(&"[".repeat(500)), ["too_large"]);
    }

    #[test]
    fn merge_keys_give_way_to_own_keys() {
        let root = parse("x: &x {a: 1, b: 2}\ny: {<<: *x, a: 3}\n")
            .root
            .expect("valid");
        assert_eq!(
            root.find(&KeyPath::of(["y", "a"])).expect("a").1.value,
            Value::Int(3)
        );
        assert_eq!(
            root.find(&KeyPath::of(["y", "b"])).expect("b").1.value,
            Value::Int(2)
        );
    }

    #[test]
    fn one_document_is_allowed() {
        assert_eq!(codes("a: 1\n---\nb: 2\n"), ["second_document"]);
        assert_eq!(codes("---\na: 1\n...\n"), Vec::<&str>::new());
    }
}
