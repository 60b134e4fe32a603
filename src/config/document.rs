//! The pipeline file as a tree of values that know where they stand in the text.
//!
//! Stands between the YAML parser, which fills it, and the layers, which merge it with what overrides it.

use std::fmt;

/// A place in the text, counted from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    /// The line.
    pub line: usize,
    /// The column, in characters rather than bytes.
    pub column: usize,
}

impl Mark {
    /// The first character of a file, where problems go that have no better place.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// The way from the root of a document to one value: map keys, and list indices as decimal numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KeyPath(Vec<String>);

impl KeyPath {
    /// Gives the path of `segments`, from the document's root.
    pub(super) fn of<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }

    /// Gives the path of a dotted text relative to the root key, such as `server.listen`.
    #[must_use]
    pub(super) fn setting(dotted: &str) -> Self {
        Self::of(std::iter::once("snoke_ws").chain(dotted.split('.')))
    }

    /// Gives the path of `key` below this one.
    #[must_use]
    pub(super) fn child(&self, key: impl Into<String>) -> Self {
        let mut segments = self.0.clone();
        segments.push(key.into());
        Self(segments)
    }

    /// Gives the path one step nearer to the root, if this is not the root.
    #[must_use]
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    /// Gives the path's steps from the root.
    #[must_use]
    pub(super) fn segments(&self) -> &[String] {
        &self.0
    }

    /// Tells whether `self` is `other` or lies below it.
    #[must_use]
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    /// Writes the path as an operator addresses it: without the root key, a stage by its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        if rest.len() > 1 && rest[0] == "snoke_ws" {
            rest = &rest[1..];
        }
        let in_stages = rest.first().is_some_and(|first| first == "stages");
        let mut first = true;
        for (depth, segment) in rest.iter().enumerate() {
            let index = segment.parse::<usize>().ok();
            match index {
                // A stage's place in the list is left out where its name follows.
                Some(_) if in_stages && depth == 1 && rest.len() > 2 => continue,
                Some(index) if depth > 0 => write!(f, "[{index}]")?,
                _ if first => f.write_str(segment)?,
                _ => write!(f, ".{segment}")?,
            }
            first = false;
        }
        Ok(())
    }
}

/// A variable that a `${…}` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// The variable's name.
    pub name: String,
    /// Whether it gave the value; if not, the default after `:-` did.
    pub used: bool,
}

/// A value of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<Entry>),
    /// A value with a problem that is already reported.
    Broken,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// The value.
    pub value: Value,
    /// A scalar as the file writes it, without quotes; empty for lists and maps.
    pub raw: String,
    /// Whether a scalar stands in quotes or in a block (`|`, `>`), which makes it a text.
    pub quoted: bool,
    /// The variables that `${…}` in a scalar names.
    pub variables: Vec<Variable>,
    /// Where the value begins.
    pub start: Mark,
    /// Where the value ends; past its last character.
    pub end: Mark,
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub key_start: Mark,
    /// The key's value.
    pub node: Node,
}

impl Node {
    /// Makes a scalar that does not come from a file's text, such as the value of a variable.
    #[must_use]
    pub(super) fn bare_text(text: &str) -> Self {
        Self {
            value: Value::Text(text.to_owned()),
            raw: text.to_owned(),
            quoted: false,
            variables: Vec::new(),
            start: Mark::START,
            end: Mark::START,
        }
    }

    /// Gives the entry of `key`, if this is a map that has it.
    #[must_use]
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Follows `path` and gives where its last step is named, and its value.
    #[must_use]
    pub(super) fn find(&self, path: &KeyPath) -> Option<(Mark, &Self)> {
        let mut found = (self.start, self);
        for segment in path.segments() {
            found = if let Value::List(items) = &found.1.value {
                let item = items.get(segment.parse::<usize>().ok()?)?;
                (item.start, item)
            } else {
                let entry = found.1.entry(segment)?;
                (entry.key_start, &entry.node)
            };
        }
        Some(found)
    }

    /// Gives the place of `path`'s key, or of its nearest parent that exists.
    #[must_use]
    pub(super) fn nearest_key(&self, path: &KeyPath) -> Mark {
        let mut path = path.clone();
        loop {
            if let Some((mark, _)) = self.find(&path) {
                return if path.segments().is_empty() {
                    Mark::START
                } else {
                    mark
                };
            }
            match path.parent() {
                Some(parent) => path = parent,
                None => return Mark::START,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_an_operator_addresses_them() {
        let shown = |segments: &[&str]| KeyPath::of(segments.iter().copied()).to_string();
        assert_eq!(shown(&["snoke_ws", "server", "listen"]), "server.listen");
        assert_eq!(
            shown(&["snoke_ws", "stages", "2", "rate_limit", "burst"]),
            "stages.rate_limit.burst"
        );
        assert_eq!(shown(&["snoke_ws", "stages", "2"]), "stages[2]");
        assert_eq!(
            shown(&["snoke_ws", "server", "allowed_origins", "1"]),
            "server.allowed_origins[1]"
        );
        assert_eq!(shown(&["snoke_ws"]), "snoke_ws");
    }
}
