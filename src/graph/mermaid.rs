//! Draws for Mermaid: a `flowchart LR` that Markdown pages show.

use std::fmt::Write as _;

use super::{Graph, Place, Route};

/// Draws the graph.
pub(super) fn draw(graph: &Graph) -> String {
    let mut out = String::from("flowchart LR\n");
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "  {text}");
    };
    line(format!("accTitle: {}", plain(&graph.title)));
    line(r#"client(["client"])"#.into());
    let mut before = "client".to_owned();
    line(r#"subgraph stages["stages"]"#.into());
    for (index, stage) in graph.stages.iter().enumerate() {
        let lines = stage.lines();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let text = label(&lines);
        line(format!("  stage_{index}[\"{text}\"]"));
    }
    line("end".into());
    for (index, stage) in graph.stages.iter().enumerate() {
        let node = format!("stage_{index}");
        line(format!("{before} --> {node}"));
        if !stage.answers.is_empty() {
            line(format!(
                "{node} -. \"{}\" .-> client",
                label(&stage.answers)
            ));
        }
        before = node;
    }
    for (index, sink) in graph.sinks.iter().enumerate() {
        line(format!("sink_{index}[(\"{}\")]", of(sink)));
        if let Some(routes) = graph.routes_to(sink.name) {
            line(format!("{before} {} sink_{index}", by(&routes)));
        }
    }
    if graph.sinks.is_empty() {
        line(r#"sink_none["no sink: events go nowhere"]"#.into());
        line(format!("{before} --> sink_none"));
    } else if !graph.dead_letters.is_empty() {
        let lines = super::dot::dead_letter_lines(graph);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        line(format!("dead_letters[(\"{}\")]", label(&lines)));
        for (index, _) in graph.reached() {
            line(format!("sink_{index} -. \"given up\" .-> dead_letters"));
        }
    }
    let nowhere = graph.routes_nowhere();
    if !graph.sinks.is_empty() && !nowhere.is_empty() {
        line(r#"nowhere["nowhere"]"#.into());
        line(format!("{before} {} nowhere", by(&nowhere)));
    }
    line(r#"registry["registry"]"#.into());
    for (index, source) in graph.sources.iter().enumerate() {
        line(format!("source_{index}[/\"{}\"/]", of(source)));
        line(format!("source_{index} --> registry"));
    }
    line(r#"registry -- "pushes" --> client"#.into());
    out
}

/// The arrow that routes take.
fn by(routes: &[&Route]) -> String {
    if routes.is_empty() {
        return "-->".into();
    }
    let lines: Vec<_> = routes.iter().map(|route| route.shown()).collect();
    let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
    format!("-- \"{}\" -->", label(&lines))
}

fn of(place: &Place) -> String {
    let lines: Vec<&str> = std::iter::once(place.name)
        .chain(place.targets.iter().map(String::as_str))
        .collect();
    label(&lines)
}

/// Lines of a label, between double quotes.
fn label(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
    lines.join("<br/>")
}

/// A text in which Mermaid finds neither markup nor the end of its quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '#' | '"' | '<' | '>' | '&' | '`' | '\\' => {
                let _ = write!(out, "#{};", u32::from(character));
            }
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
    out
}

/// A text that is the rest of a line.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '#' | ';') {
                ' '
            } else {
                c
            }
        })
        .collect()
}
