//! Says what a YAML syntax error probably is, in words of someone who did not write the parser.
//!
//! Used by the YAML reader only, where the parser gave up.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::document::Mark;
use super::problem::Problem;
use super::yaml::mark;

/// Turns the parser's `error` in `text` into a problem with a hint.
pub(super) fn explain(text: &str, error: &ScanError) -> Problem {
    let at = mark(*error.marker());
    if let Some(tab) = indenting_tab(text, at) {
        return Problem::at(
            tab,
            "tab_indentation",
            "a tab is used for indentation, and YAML allows only spaces",
        )
        .hint("replace the tab by two spaces");
    }
    let line = text.lines().nth(at.line - 1).unwrap_or_default();
    let problem = |message: &str| Problem::at(at, "yaml_syntax", message);
    if let Some(index) = text.lines().position(|line| line.starts_with("<<<<<<< ")) {
        return Problem::at(
            Mark {
                line: index + 1,
                column: 1,
            },
            "yaml_syntax",
            "a merge conflict is left in the file",
        )
        .hint("settle the conflict and remove the lines `<<<<<<<`, `=======` and `>>>>>>>`");
    }
    if line.contains("${") && in_flow(error.kind()) {
        return problem("`${…}` inside `{ }` or `[ ]` must be quoted")
            .hint("write `\"${NAME}\"` with double quotes");
    }
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            Problem::at(at, "too_large", "the file nests too deeply")
        }
        ErrorKind::MappingValueNotAllowed => colon(text, line, at),
        ErrorKind::SimpleKeyExpected => {
            let at = Mark {
                line: at.line,
                column: indent(line) + 1,
            };
            Problem::at(at, "yaml_syntax", "a colon is missing after this key")
                .hint("write `key: value`, with a space after the colon")
        }
        ErrorKind::ExpectedBlockMappingKey => {
            if line.trim_start().starts_with('-') {
                problem("a list item stands where a key is expected")
                    .hint("indent the list below its key, and end that key's line with a colon")
            } else {
                problem("this line is indented differently from the keys above it")
                    .hint("keys of one map begin in the same column")
            }
        }
        ErrorKind::ExpectedBlockSequenceEntry => problem(
            "a key stands where the next list item is expected",
        )
        .hint("begin the line with `- `, or indent it to the column of the keys it belongs to"),
        ErrorKind::UnclosedQuotedScalar => problem("a quote is opened here and never closed")
            .hint("close it, on the same line, with the same kind of quote"),
        ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            problem("there is text after the closing quote")
                .hint("quote the whole value; inside double quotes a quote is written `\\\"`")
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            problem("a backslash in double quotes begins an escape, and this one does not exist")
                .hint("use single quotes, or write the backslash as `\\\\`")
        }
        ErrorKind::UnknownAnchor => problem("`*` refers to an anchor that no line above defines")
            .hint("a text that begins with `*` must be quoted"),
        ErrorKind::UnexpectedCharacter { character } => problem(&format!(
            "a value cannot begin with `{}`",
            character.escape_debug()
        ))
        .hint("put the value in quotes"),
        ErrorKind::MisplacedFlowCollectionEnd => problem("this bracket closes nothing")
            .hint("remove it, or open it before; a text that holds brackets must be quoted"),
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::BlockEntryInFlowCollection
        | ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            problem("a `{` or `[` is not closed, or a comma is missing")
                .hint("write `{ key: value, key: value }`, or one key a line without braces")
        }
        ErrorKind::BlockSequenceEntryNotAllowed => {
            problem("a list item cannot begin on the line of its key")
                .hint("put `- …` on a line of its own, or write `[a, b]`")
        }
        ErrorKind::CommentInterceptedScalar => {
            problem("the text goes on after a comment, on a line that is indented too far")
                .hint("a new key begins in the column of the keys above it")
        }
        _ => problem(&error.info()).hint("the mistake is on this line or shortly before it"),
    }
}

fn in_flow(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::MisplacedFlowCollectionEnd
            | ErrorKind::InvalidColonPlacement
    )
}

/// Explains a colon the parser did not expect: the commonest error, with four common causes.
fn colon(text: &str, line: &str, at: Mark) -> Problem {
    let before: String = line.chars().take(at.column - 1).collect();
    if before.contains(": ") {
        return Problem::at(
            at,
            "yaml_syntax",
            "a second `: ` on the line; a value that holds one must be quoted",
        )
        .hint("put the value in quotes: `key: \"a: b\"`");
    }
    let previous = text
        .lines()
        .enumerate()
        .take(at.line - 1)
        .filter(|(_, line)| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        });
    let Some((number, previous)) = previous.last() else {
        return Problem::at(at, "yaml_syntax", "a key is not allowed here");
    };
    let content = previous.trim();
    if !content.contains(": ") && !content.ends_with(':') {
        let at = Mark {
            line: number + 1,
            column: indent(previous) + 1,
        };
        let hint = if content.contains([':', ' ']) {
            "write `key: value`, with a space after the colon"
        } else {
            "end the key with a colon: `key:`"
        };
        return Problem::at(at, "yaml_syntax", "a colon is missing on this line").hint(hint);
    }
    let at = Mark {
        line: at.line,
        column: indent(line) + 1,
    };
    Problem::at(
        at,
        "yaml_syntax",
        "this line is indented deeper than the one above, which already has a value",
    )
    .hint("keys of one map begin in the same column")
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| *c == ' ').count()
}

/// Finds a tab in the indentation of the lines around the error, the nearest first.
fn indenting_tab(text: &str, at: Mark) -> Option<Mark> {
    // A line that begins with a tab is read as the rest of the value above, so the error can come early.
    [at.line, at.line + 1, at.line - 1]
        .into_iter()
        .filter(|line| *line > 0)
        .find_map(|line| {
            let content = text.lines().nth(line - 1)?;
            let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
            let tab = content[..indent].find('\t')?;
            Some(Mark {
                line,
                column: tab + 1,
            })
        })
}
