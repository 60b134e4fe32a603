//! The colours of the image, for light and for dark pages, and its arrowheads.
//!
//! Beside the drawing, which names them as classes.

/// What stands at the head of the image.
pub(super) const STYLE: &str = r#"  <style>
    text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2937 }
    .head { font-size: 15px; font-weight: 600 }
    .name { font-weight: 600 }
    .small, .label { font-size: 12.5px; fill: #4b5563 }
    .page { fill: #ffffff }
    rect { fill: #ffffff; stroke: #6b7280; stroke-width: 1.3 }
    rect.page { stroke: none }
    .stage rect { fill: #e0ecff; stroke: #3b6fd4 }
    .client rect, .registry rect { fill: #f3f4f6 }
    .letters rect { fill: #fff4e5; stroke: #b45309 }
    .nowhere rect { stroke-dasharray: 5 4 }
    .line { fill: none; stroke-width: 1.8 }
    .in { stroke: #3b6fd4 } .in-head { fill: #3b6fd4 }
    .answer { stroke: #6b7280; stroke-dasharray: 5 4 } .answer-head { fill: #6b7280 }
    .given-up { stroke: #b45309; stroke-dasharray: 5 4 } .given-up-head { fill: #b45309 }
    .back { stroke: #0f8a5f } .back-head { fill: #0f8a5f }
    @media (prefers-color-scheme: dark) {
      text { fill: #e5e7eb }
      .small, .label { fill: #b6bdc8 }
      .page { fill: #0d1117 }
      rect { fill: #1f2937; stroke: #9ca3af }
      .stage rect { fill: #1e3257; stroke: #7aa5f7 }
      .client rect, .registry rect { fill: #1b222c }
      .letters rect { fill: #3b2a12; stroke: #f0b060 }
      .in { stroke: #7aa5f7 } .in-head { fill: #7aa5f7 }
      .answer { stroke: #9ca3af } .answer-head { fill: #9ca3af }
      .given-up { stroke: #f0b060 } .given-up-head { fill: #f0b060 }
      .back { stroke: #4cc79a } .back-head { fill: #4cc79a }
    }
  </style>
  <defs>
    <marker id="in" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path class="in-head" d="M0 0 10 5 0 10z"/></marker>
    <marker id="answer" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path class="answer-head" d="M0 0 10 5 0 10z"/></marker>
    <marker id="given-up" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path class="given-up-head" d="M0 0 10 5 0 10z"/></marker>
    <marker id="back" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path class="back-head" d="M0 0 10 5 0 10z"/></marker>
  </defs>
"#;
