use super::*;

fn hostile() -> Graph {
    let nasty = "a \"b\" <c> & `d` \\ #e; %{f} \u{1b}[0m\nx";
    Graph {
        title: nasty.into(),
        stages: vec![
            Stage {
                name: "set",
                does: nasty.into(),
                when: Some(nasty.into()),
                answers: vec!["one", "two"],
            },
            Stage {
                name: "set",
                does: "é".repeat(200),
                when: None,
                answers: Vec::new(),
            },
        ],
        sinks: vec![Place {
            name: "redis",
            targets: vec![nasty.into(); 9],
        }],
        routes: vec![
            Route {
                label: nasty.into(),
                to: vec!["redis".into()],
            };
            12
        ]
        .into_iter()
        .chain((0..12).map(|_| Route {
            label: nasty.into(),
            to: Vec::new(),
        }))
        .collect(),
        dead_letters: vec![nasty.into()],
        sources: vec![
            Place {
                name: "http",
                targets: vec![nasty.into()],
            };
            4
        ],
    }
}

/// One stage, nothing else.
fn least() -> Graph {
    Graph {
        title: String::new(),
        stages: vec![Stage {
            name: "fan_out",
            does: String::new(),
            when: None,
            answers: Vec::new(),
        }],
        sinks: Vec::new(),
        routes: Vec::new(),
        dead_letters: vec!["file x".into()],
        sources: vec![Place {
            name: "http",
            targets: Vec::new(),
        }],
    }
}

#[test]
fn mermaid_has_no_label_that_ends_early() {
    for line in hostile().mermaid().lines() {
        let quotes = line.matches('"').count();
        assert!(quotes % 2 == 0, "{line}");
        let inside: String = line.split('"').skip(1).step_by(2).collect();
        let plain = inside.replace("<br/>", "");
        assert!(!plain.contains(['<', '>', '`', '\\', '&']), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    assert!(least().mermaid().contains("events go nowhere"));
}

#[test]
fn dot_has_no_label_that_ends_early() {
    for line in hostile().dot().lines() {
        let bare = line.replace("\\\\", "").replace("\\\"", "");
        assert!(bare.matches('"').count() % 2 == 0, "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    assert!(
        !least().dot().contains("dead_letters"),
        "nothing is delivered, nothing fails"
    );
}

/// The numbers of an element's attributes.
fn numbers(element: &str, names: [&str; 4]) -> Option<[usize; 4]> {
    let number = |name: &str| {
        let rest = element.split(&format!(" {name}=\"")).nth(1)?;
        rest.split('"').next()?.parse().ok()
    };
    let found: Vec<usize> = names.into_iter().map_while(number).collect();
    found.try_into().ok()
}

#[test]
fn boxes_neither_overlap_nor_leave_the_picture() {
    for graph in [hostile(), least()] {
        let svg = graph.svg(Theme::Browser);
        let page = numbers(&svg, ["width", "height", "width", "height"]).expect("a size");
        let boxes: Vec<_> = svg
            .split("<rect")
            .skip(1)
            .filter_map(|rect| {
                let element = rect.split("/>").next()?;
                numbers(element, ["x", "y", "width", "height"])
            })
            .collect();
        assert!(boxes.len() >= 4, "{svg}");
        for (index, [x, y, width, height]) in boxes.iter().enumerate() {
            assert!(x + width < page[0] && y + height < page[1], "{svg}");
            for [x2, y2, width2, height2] in &boxes[..index] {
                let apart = x + width <= *x2
                    || x2 + width2 <= *x
                    || y + height <= *y2
                    || y2 + height2 <= *y;
                assert!(apart, "{x},{y} and {x2},{y2} overlap: {svg}");
            }
        }
    }
}

#[test]
fn a_stage_may_come_twice() {
    let graph = hostile();
    for picture in [graph.mermaid(), graph.dot()] {
        assert!(
            picture.contains("stage_0") && picture.contains("stage_1"),
            "{picture}"
        );
    }
}
