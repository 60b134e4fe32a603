//! Draws an SVG that needs nothing else: no font, no script, no Graphviz.
//!
//! A pipeline is a chain, so the layout is three columns: the client on the left, the stages from top to bottom as the
//! file lists them, and what lies beyond the gateway on the right. Answers go straight back to the left.

use std::fmt::Write as _;

use self::style::STYLE;
use super::dot::dead_letter_lines;
use super::{Graph, Place, Route};
use crate::xml;

mod style;

const MARGIN: usize = 24;
const CLIENT_WIDTH: usize = 110;
/// Between the columns: room for labels on the left, for lines on the right.
const LEFT_GAP: usize = 190;
const RIGHT_GAP: usize = 84;
const BOX_MIN_WIDTH: usize = 240;
const LINE: usize = 19;
const PADDING: usize = 12;
const GAP: usize = 30;
/// Characters of a line at most; a line's whole text is in its tooltip.
const MOST_CHARS: usize = 60;
/// Width of a character on the average, in tenths of a pixel at 14 pixels; generous, since fonts differ.
const CHAR_TENTHS: usize = 76;

/// Height of a line of a label on an arrow, and the average width of its characters in tenths of a pixel.
const LABEL_LINE: usize = 15;
const LABEL_TENTHS: usize = 68;

/// A box with its text.
struct Box {
    kind: &'static str,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    lines: Vec<String>,
}

impl Box {
    fn middle(&self) -> usize {
        self.y + self.height / 2
    }

    fn bottom(&self) -> usize {
        self.y + self.height
    }

    fn right(&self) -> usize {
        self.x + self.width
    }
}

/// Draws the graph.
pub(super) fn draw(graph: &Graph) -> String {
    let mut stages: Vec<Box> = graph
        .stages
        .iter()
        .map(|stage| of("stage", stage.lines()))
        .collect();
    let (mut sinks, routed) = beyond(graph);
    let mut letters: Vec<Box> = Vec::new();
    if !graph.sinks.is_empty() && !graph.dead_letters.is_empty() {
        letters.push(of("letters", dead_letter_lines(graph)));
    }
    let mut sources: Vec<Box> = graph
        .sources
        .iter()
        .map(|source| at("source", source))
        .collect();
    let mut registry = of(
        "registry",
        vec![
            "registry".into(),
            "finds the connections of a subject".into(),
        ],
    );

    let left = MARGIN + CLIENT_WIDTH + LEFT_GAP;
    let stage_width = widest(stages.iter().chain([&registry]));
    let labels = routed.iter().flatten().flatten();
    let gap = match labels.map(|label| label.shown().chars().count()).max() {
        // From the bend on, with room for the arrowhead.
        Some(chars) => RIGHT_GAP / 2 + chars * LABEL_TENTHS / 10 + 30,
        None => RIGHT_GAP,
    };
    let right = left + stage_width + gap;
    let right_width = widest(sinks.iter().chain(&letters).chain(&sources));
    let top = MARGIN + 34;
    let chain_end = stack(&mut stages, left, stage_width, top);
    let last = stages.last().map_or(top, Box::middle);
    let height_of = |boxes: &[Box]| boxes.iter().map(|b| b.height + GAP).sum::<usize>();
    // Beside the last stage, which is where the lines to the sinks begin.
    let half = (height_of(&sinks) - GAP) / 2;
    let sinks_top = last.saturating_sub(half).max(top);
    let sinks_end = stack(&mut sinks, right, right_width, sinks_top);
    let letters_end = stack(&mut letters, right, right_width, sinks_end);
    let back_top = chain_end.max(letters_end) + GAP / 2;
    let sources_end = stack(&mut sources, right, right_width, back_top);
    registry.x = left;
    registry.width = stage_width;
    registry.y = (back_top + sources_end - GAP) / 2 - registry.height / 2;
    let client = Box {
        kind: "client",
        x: MARGIN,
        y: top,
        width: CLIENT_WIDTH,
        height: registry.bottom().max(sources_end - GAP) - top,
        lines: vec!["client".into()],
    };

    let mut picture = Picture {
        out: String::new(),
        width: right + right_width + MARGIN * 2,
        height: client.bottom() + MARGIN,
    };
    picture.begin(graph);
    picture.lines(graph, &client, &stages, &registry);
    picture.sinks(&stages, &sinks, &routed);
    if let Some(letters) = letters.first() {
        let given_up = sinks.iter().zip(&routed).take(graph.sinks.len());
        let given_up = given_up.filter(|(_, routes)| routes.is_some());
        picture.given_up(given_up.map(|(sink, _)| sink), letters);
    }
    picture.sources(&sources, &registry);
    let boxes = [&client]
        .into_iter()
        .chain(&stages)
        .chain(&sinks)
        .chain(&letters);
    for drawn in boxes.chain(&sources).chain([&registry]) {
        picture.draw(drawn);
    }
    picture.out.push_str("</svg>\n");
    picture.out
}

/// What the lines to the boxes beyond the gateway say, for each box; none where no line leads.
type Routed<'a> = Vec<Option<Vec<&'a Route>>>;

/// The sinks, what stands for none, and nowhere; all high enough for the labels of the lines that lead there.
fn beyond(graph: &Graph) -> (Vec<Box>, Routed<'_>) {
    let mut boxes: Vec<Box> = graph.sinks.iter().map(|sink| at("sink", sink)).collect();
    let to_sinks = graph.sinks.iter().map(|sink| graph.routes_to(sink.name));
    let mut routed: Routed<'_> = to_sinks.collect();
    if boxes.is_empty() {
        let lines = vec!["no sink".into(), "events go nowhere".into()];
        boxes.push(of("sink", lines));
        routed.push(Some(Vec::new()));
    } else if let nowhere @ [_, ..] = graph.routes_nowhere().as_slice() {
        boxes.push(of("nowhere", vec!["nowhere".into()]));
        routed.push(Some(nowhere.to_vec()));
    }
    for (drawn, routes) in boxes.iter_mut().zip(&routed) {
        let labels = routes.as_ref().map_or(0, Vec::len);
        if labels > 0 {
            drawn.height = drawn.height.max(labels * LABEL_LINE + PADDING * 2);
        }
    }
    (boxes, routed)
}

fn of(kind: &'static str, lines: Vec<String>) -> Box {
    Box {
        kind,
        x: 0,
        y: 0,
        width: 0,
        height: PADDING * 2 + LINE * lines.len() - 4,
        lines,
    }
}

fn at(kind: &'static str, place: &Place) -> Box {
    let mut lines = vec![place.name.to_owned()];
    lines.extend(place.targets.iter().cloned());
    of(kind, lines)
}

fn widest<'a>(boxes: impl Iterator<Item = &'a Box>) -> usize {
    let chars = boxes
        .flat_map(|b| &b.lines)
        .map(|line| line.chars().count().min(MOST_CHARS))
        .max()
        .unwrap_or_default();
    (chars * CHAR_TENTHS / 10 + PADDING * 2).max(BOX_MIN_WIDTH)
}

/// Puts boxes below each other; gives where the next one would stand.
fn stack(boxes: &mut [Box], x: usize, width: usize, top: usize) -> usize {
    let mut y = top;
    for placed in boxes {
        (placed.x, placed.y, placed.width) = (x, y, width);
        y += placed.height + GAP;
    }
    y
}

struct Picture {
    out: String,
    width: usize,
    height: usize,
}

impl Picture {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
        self.out.push('\n');
    }

    fn begin(&mut self, graph: &Graph) {
        let (width, height) = (self.width, self.height);
        self.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-labelledby=\"title description\">"
        ));
        let title = escaped(&graph.title);
        self.add(format_args!("  <title id=\"title\">{title}</title>"));
        self.add(format_args!(
            "  <desc id=\"description\">{}</desc>",
            escaped(&description(graph))
        ));
        self.out.push_str(STYLE);
        self.add(format_args!(
            "  <rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>"
        ));
        self.add(format_args!(
            "  <text class=\"head\" x=\"{MARGIN}\" y=\"{}\">{title}</text>",
            MARGIN + 14
        ));
    }

    /// The lines between the client, the stages and the registry.
    fn lines(&mut self, graph: &Graph, client: &Box, stages: &[Box], registry: &Box) {
        if let Some(first) = stages.first() {
            let y = first.y + first.height / 4;
            self.arrow("in", &format!("M{} {y}H{}", client.right(), first.x - 2));
            self.label(usize::midpoint(client.right(), first.x), y - 6, "messages");
        }
        for pair in stages.windows(2) {
            let x = pair[0].x + pair[0].width / 2;
            self.arrow(
                "in",
                &format!("M{x} {}V{}", pair[0].bottom(), pair[1].y - 2),
            );
        }
        for (stage, drawn) in graph.stages.iter().zip(stages) {
            if stage.answers.is_empty() {
                continue;
            }
            let y = drawn.bottom() - drawn.height / 4;
            self.arrow(
                "answer",
                &format!("M{} {y}H{}", drawn.x, client.right() + 2),
            );
            for (index, answer) in stage.answers.iter().enumerate() {
                // The first stands on its line, what else there is below it.
                let y = if index == 0 {
                    y - 6
                } else {
                    y + 2 + 14 * index
                };
                self.label(usize::midpoint(client.right(), drawn.x), y, answer);
            }
        }
        let y = registry.middle();
        self.arrow(
            "back",
            &format!("M{} {y}H{}", registry.x, client.right() + 2),
        );
        self.label(usize::midpoint(client.right(), registry.x), y - 6, "pushes");
    }

    /// The lines from the last stage to the sinks, each below the routes that lead there.
    fn sinks(&mut self, stages: &[Box], sinks: &[Box], labels: &Routed<'_>) {
        let Some(last) = stages.last() else { return };
        let (from, y, bend) = (last.right(), last.middle(), last.right() + RIGHT_GAP / 2);
        for (sink, routes) in sinks.iter().zip(labels) {
            let Some(routes) = routes else { continue };
            let to = if routes.is_empty() {
                sink.middle()
            } else {
                sink.bottom() - PADDING
            };
            self.arrow("in", &format!("M{from} {y}H{bend}V{to}H{}", sink.x - 2));
            for (above, route) in routes.iter().rev().enumerate() {
                self.add(format_args!(
                    "  <text class=\"label\" x=\"{}\" y=\"{}\"><title>{}</title>{}</text>",
                    bend + 8,
                    to - 6 - above * LABEL_LINE,
                    escaped(&route.label),
                    escaped(&route.shown())
                ));
            }
        }
    }

    /// The lines from the sinks to where they give up to: a rail on the right, so that no line crosses a sink.
    fn given_up<'a>(&mut self, sinks: impl Iterator<Item = &'a Box>, letters: &Box) {
        let (rail, to) = (letters.right() + MARGIN, letters.middle());
        for (index, sink) in sinks.enumerate() {
            let (from, y, x) = (sink.right(), sink.middle(), letters.right() + 2);
            let path = format!("M{from} {y}H{rail}");
            if index == 0 {
                self.arrow("given-up", &format!("{path}V{to}H{x}"));
            } else {
                // The others join the first one's line.
                self.add(format_args!(
                    "  <path class=\"line given-up\" d=\"{path}\"/>"
                ));
            }
        }
    }

    fn sources(&mut self, sources: &[Box], registry: &Box) {
        let bend = registry.right() + RIGHT_GAP / 2;
        for source in sources {
            let (from, y) = (source.x, source.middle());
            let (to, x) = (registry.middle(), registry.right() + 2);
            self.arrow("back", &format!("M{from} {y}H{bend}V{to}H{x}"));
        }
    }

    fn arrow(&mut self, kind: &str, path: &str) {
        self.add(format_args!(
            "  <path class=\"line {kind}\" d=\"{path}\" marker-end=\"url(#{kind})\"/>"
        ));
    }

    fn label(&mut self, x: usize, y: usize, text: &str) {
        self.add(format_args!(
            "  <text class=\"label\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            escaped(text)
        ));
    }

    fn draw(&mut self, drawn: &Box) {
        let Box {
            kind,
            x,
            y,
            width,
            height,
            lines,
        } = drawn;
        self.add(format_args!("  <g class=\"{kind}\">"));
        self.add(format_args!(
            "    <title>{}</title>",
            escaped(&lines.join(": "))
        ));
        self.add(format_args!(
            "    <rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"7\"/>"
        ));
        let middle = x + width / 2;
        let first = y + height / 2 + 5 - (lines.len() - 1) * LINE / 2;
        for (index, line) in lines.iter().enumerate() {
            let class = if index == 0 { "name" } else { "small" };
            let y = first + index * LINE;
            self.add(format_args!(
                "    <text class=\"{class}\" x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                escaped(&cut(line))
            ));
        }
        self.add(format_args!("  </g>"));
    }
}

/// The picture in words.
fn description(graph: &Graph) -> String {
    let names = |places: &[Place]| {
        let named = |place: &Place| format!("{} ({})", place.name, place.targets.join(", "));
        places.iter().map(named).collect::<Vec<_>>().join(", ")
    };
    let stages: Vec<_> = graph
        .stages
        .iter()
        .map(|stage| match &stage.when {
            Some(when) => format!("{} (when {when})", stage.name),
            None => stage.name.to_owned(),
        })
        .collect();
    let mut text = format!("A client's message passes {}", stages.join(", "));
    if graph.sinks.is_empty() {
        text.push_str("; its event goes nowhere");
    } else {
        let by = if graph.routes.is_empty() {
            ""
        } else {
            " by its routes"
        };
        let _ = write!(text, " and goes{by} to {}", names(&graph.sinks));
        if !graph.dead_letters.is_empty() {
            let letters = graph.dead_letters.join(", else ");
            let _ = write!(text, ", or if it cannot be delivered to {letters}");
        }
    }
    if !graph.routes.is_empty() {
        let routes: Vec<_> = graph.routes.iter().map(Route::to_string).collect();
        let _ = write!(text, ". Routes: {}", routes.join("; "));
    }
    let answers: Vec<_> = graph
        .stages
        .iter()
        .filter(|stage| !stage.answers.is_empty())
        .map(|stage| format!("{} ({})", stage.name, stage.answers.join(", ")))
        .collect();
    if !answers.is_empty() {
        let _ = write!(text, ". Clients are answered by {}", answers.join(", "));
    }
    let _ = write!(
        text,
        ". Pushes come from {} and go through the registry to the client.",
        names(&graph.sources)
    );
    text
}

fn cut(line: &str) -> String {
    if line.chars().count() <= MOST_CHARS {
        return line.to_owned();
    }
    let kept: String = line.chars().take(MOST_CHARS - 1).collect();
    format!("{kept}…")
}

/// A text on one line, as XML may have it.
fn escaped(text: &str) -> String {
    xml::escaped(&text.replace(char::is_control, " "))
}
