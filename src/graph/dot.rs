//! Draws for Graphviz: the DOT language (graphviz.org/doc/info/lang.html).

use std::fmt::Write as _;

use super::{Graph, Place, Route};

/// Draws the graph.
pub(super) fn draw(graph: &Graph) -> String {
    let mut out = String::from("digraph pipeline {\n");
    // Writing to a string cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "  {text}");
    };
    line("rankdir=LR;".into());
    line(format!("label={};", quoted(&[&graph.title])));
    line("fontname=\"sans-serif\";".into());
    line("node [shape=box, style=rounded, fontname=\"sans-serif\"];".into());
    line("edge [fontname=\"sans-serif\", fontsize=11];".into());
    line("client [label=\"client\", shape=oval];".into());
    let mut before = "client".to_owned();
    for (index, stage) in graph.stages.iter().enumerate() {
        let node = format!("stage_{index}");
        let lines = stage.lines();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        line(format!("{node} [label={}];", quoted(&lines)));
        line(format!("{before} -> {node};"));
        if !stage.answers.is_empty() {
            let answers = quoted(&stage.answers);
            line(format!(
                "{node} -> client [label={answers}, style=dashed, constraint=false];"
            ));
        }
        before = node;
    }
    for (index, sink) in graph.sinks.iter().enumerate() {
        line(format!(
            "sink_{index} [label={}, shape=cylinder];",
            of(sink)
        ));
        if let Some(routes) = graph.routes_to(sink.name) {
            line(format!("{before} -> sink_{index}{};", on(&routes)));
        }
    }
    if graph.sinks.is_empty() {
        line("sink_none [label=\"no sink: events go nowhere\", style=dashed];".into());
        line(format!("{before} -> sink_none;"));
    } else if !graph.dead_letters.is_empty() {
        let lines = dead_letter_lines(graph);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        line(format!(
            "dead_letters [label={}, shape=cylinder];",
            quoted(&lines)
        ));
        for (index, _) in graph.reached() {
            line(format!(
                "sink_{index} -> dead_letters [label=\"given up\", style=dashed];"
            ));
        }
    }
    let nowhere = graph.routes_nowhere();
    if !graph.sinks.is_empty() && !nowhere.is_empty() {
        line("nowhere [label=\"nowhere\", style=dashed];".into());
        line(format!("{before} -> nowhere{};", on(&nowhere)));
    }
    line("registry [label=\"registry\"];".into());
    for (index, source) in graph.sources.iter().enumerate() {
        line(format!(
            "source_{index} [label={}, shape=parallelogram];",
            of(source)
        ));
        line(format!("source_{index} -> registry;"));
    }
    line("registry -> client [label=\"pushes\"];".into());
    out.push_str("}\n");
    out
}

/// What the node of dead letters says.
pub(super) fn dead_letter_lines(graph: &Graph) -> Vec<String> {
    let mut lines = vec!["dead letters".to_owned()];
    for (index, target) in graph.dead_letters.iter().enumerate() {
        let or = if index > 0 { "else " } else { "" };
        lines.push(format!("{or}{target}"));
    }
    lines
}

/// The attributes of a line that routes take, with a blank before; none without routes.
fn on(routes: &[&Route]) -> String {
    if routes.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = routes.iter().map(|route| route.shown()).collect();
    let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
    format!(" [label={}]", quoted(&lines))
}

fn of(place: &Place) -> String {
    let lines: Vec<&str> = std::iter::once(place.name)
        .chain(place.targets.iter().map(String::as_str))
        .collect();
    quoted(&lines)
}

/// Lines of a label as a quoted string, in which a backslash begins an escape.
fn quoted(lines: &[&str]) -> String {
    let mut out = String::from("\"");
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            out.push_str("\\n");
        }
        for character in line.chars() {
            match character {
                '"' | '\\' => out.extend(['\\', character]),
                // An ampersand would begin an entity.
                '&' => out.push_str("&amp;"),
                character if character.is_control() => out.push(' '),
                character => out.push(character),
            }
        }
    }
    out.push('"');
    out
}
