//! Elements of SVG, with everything that is written into one escaped.

use super::super::label::plain;
use std::fmt::Write;

pub(super) fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        out,
        "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
        number(from.0),
        number(from.1),
        number(to.0),
        number(to.1)
    );
}

pub(super) fn rect(out: &mut String, class: &str, at: (f64, f64), size: (f64, f64)) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        number(at.0),
        number(at.1),
        number(size.0.max(0.0)),
        number(size.1.max(0.0))
    );
}

pub(super) fn dot(out: &mut String, class: &str, at: (f64, f64), radius: f64) {
    let (x, y, radius) = (number(at.0), number(at.1), number(radius));
    let _ = write!(out, "<circle class=\"dot {class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>");
}

pub(super) fn text(out: &mut String, at: (f64, f64), attributes: &str, content: &str) {
    let space = if attributes.is_empty() { "" } else { " " };
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\"{space}{attributes}>{}</text>",
        number(at.0),
        number(at.1),
        escaped(content)
    );
}

/// The points of a path, joined.
pub(super) fn trace(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (index, (x, y)) in points.enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(d, "{command}{},{}", number(x), number(y));
    }
    d
}

pub(super) fn path(out: &mut String, class: &str, d: &str) {
    let _ = write!(out, "<path class=\"{class}\" d=\"{d}\"/>");
}

/// A coordinate: two decimals at most, the same text for the same number everywhere.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Text as XML may contain it.
pub(super) fn escaped(content: &str) -> String {
    let mut safe = String::new();
    for c in plain(content).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
