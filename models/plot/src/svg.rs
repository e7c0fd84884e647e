//! A chart as SVG: text that every browser, viewer and dashboard draws.
//!
//! The ground is transparent and every colour is of middle lightness, so that it reads on white and on black alike.
//! Blue is what was said, grey what was known, orange what came: told apart by people who see few colours too.

use super::axis::{Scale, moment, time_ticks};
use super::label::{plain, shortened};
use super::picture::{Bounds, Picture};
use std::fmt::Write;

/// Mean width of a character of the small text, in pixels; wide enough for digits.
const CHARACTER: f64 = 6.6;

/// Characters of the headline in their own size.
const HEADLINE_CHARACTER: f64 = 8.6;

const RIGHT: f64 = 18.0;
const BOTTOM: f64 = 44.0;
const LEGEND_LINE: f64 = 18.0;

const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#757575}\
.title{font-size:15px;font-weight:600}\
.grid{stroke:#808080;stroke-opacity:.22;shape-rendering:crispEdges}\
.axis{stroke:#808080;stroke-opacity:.6;shape-rendering:crispEdges}\
.history,.forecast,.calibrated,.outcome-line{fill:none;stroke-linejoin:round;stroke-linecap:round}\
.history{stroke:#6b7280;stroke-width:1.5}\
.forecast{stroke:#3574e2;stroke-width:2}\
.band{fill:#3574e2;fill-opacity:.2}\
.calibrated{stroke:#3574e2;stroke-width:1.4;stroke-dasharray:5 4}\
.outcome-line{stroke:#d9480f;stroke-width:1.5}\
.outcome{fill:#d9480f}\
.cutoff{stroke:#808080;stroke-opacity:.8;stroke-dasharray:2 3;shape-rendering:crispEdges}";

/// Where the plot lies, in pixels.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    slots: usize,
    scale: Scale,
}

impl Frame {
    /// The middle of a slot's room.
    fn x(&self, slot: usize) -> f64 {
        self.left + (slot as f64 + 0.5) * (self.right - self.left) / self.slots.max(1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.scale.position(value) * (self.bottom - self.top)
    }
}

/// An entry of the legend: its name, and the mark drawn beside it.
struct Entry {
    name: String,
    mark: Mark,
}

enum Mark {
    Line(&'static str),
    /// A patch of so many bands on top of each other.
    Patch(usize),
    Dot,
}

/// Draws a picture `width` by `height` pixels large.
pub fn svg(picture: &Picture, width: f64, height: f64) -> String {
    let mut out = String::new();
    let title = escaped(&picture.title);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\">\
         <title>{title}</title><desc>{}</desc><style>{STYLE}</style>",
        escaped(&described(picture)),
        w = number(width),
        h = number(height),
    );
    headline(&mut out, picture, width);
    let scale = Scale::of(picture.values(), ((height - 100.0) / 55.0).clamp(2.0, 10.0) as usize);
    match scale {
        None => empty(&mut out, width, height),
        Some(scale) => plot(&mut out, picture, scale, width, height),
    }
    out.push_str("</svg>");
    out
}

fn headline(out: &mut String, picture: &Picture, width: f64) {
    let room = |character: f64| ((width - 2.0 * RIGHT) / character) as usize;
    text(out, (16.0, 22.0), "class=\"title\"", &shortened(&picture.title, room(HEADLINE_CHARACTER)));
    if !picture.subtitle.is_empty() {
        text(out, (16.0, 40.0), "", &shortened(&picture.subtitle, room(CHARACTER)));
    }
}

/// A frame that says that there is nothing in it.
fn empty(out: &mut String, width: f64, height: f64) {
    let _ = write!(
        out,
        "<rect class=\"axis\" x=\"16\" y=\"52\" width=\"{}\" height=\"{}\" fill=\"none\"/>",
        number((width - 32.0).max(0.0)),
        number((height - 68.0).max(0.0))
    );
    text(out, (width / 2.0, (height + 40.0) / 2.0), "class=\"empty\" text-anchor=\"middle\"", "no data");
}

fn plot(out: &mut String, picture: &Picture, scale: Scale, width: f64, height: f64) {
    let labels: Vec<(f64, String)> = scale.ticks().map(|tick| (tick, scale.label(tick))).collect();
    let longest = labels.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
    let left = 16.0 + longest as f64 * CHARACTER;
    let top = legend(out, picture, left, width) + 12.0;
    let slots = picture.slots.len();
    let frame =
        Frame { left, right: width - RIGHT, top, bottom: (height - BOTTOM).max(top + 1.0), slots, scale };
    for (tick, label) in &labels {
        let y = frame.y(*tick);
        line(out, "grid", (frame.left, y), (frame.right, y));
        text(out, (frame.left - 8.0, y + 4.0), "class=\"price\" text-anchor=\"end\"", label);
    }
    time_axis(out, picture, &frame);
    for band in 0..picture.bands.len() {
        for run in picture.ahead(|slot| slot.bands.get(band).copied().flatten(), |value| (value, value)) {
            area(out, &frame, &run);
        }
    }
    if picture.known > 0 && picture.known < slots {
        let x = (frame.x(picture.known - 1) + frame.x(picture.known)) / 2.0;
        line(out, "cutoff", (x, frame.top), (x, frame.bottom));
    }
    for side in [|bounds: Bounds| bounds.0, |bounds: Bounds| bounds.1] {
        for run in picture.ahead(|slot| slot.calibrated.map(side), |value| value) {
            path(out, "calibrated", &frame, &run);
        }
    }
    for run in picture.history() {
        path(out, "history", &frame, &run);
    }
    for run in picture.ahead(|slot| slot.point, |value| value) {
        path(out, "forecast", &frame, &run);
    }
    for run in picture.ahead(|slot| slot.actual, |value| value) {
        path(out, "outcome-line", &frame, &run);
    }
    for (slot, value) in picture.outcomes().into_iter().flatten() {
        let (x, y) = (number(frame.x(slot)), number(frame.y(value)));
        let _ = write!(out, "<circle class=\"outcome\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>");
    }
}

fn time_axis(out: &mut String, picture: &Picture, frame: &Frame) {
    line(out, "axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
    let walls: Vec<i64> = picture.slots.iter().map(|slot| slot.wall).collect();
    let wide = (frame.right - frame.left) / frame.slots.max(1) as f64;
    let apart = (58.0 / wide).ceil() as usize;
    for tick in time_ticks(&walls, ((frame.right - frame.left) / 76.0).max(1.0) as usize, apart) {
        let x = frame.x(tick.slot);
        line(out, "axis", (x, frame.bottom), (x, frame.bottom + 4.0));
        // A label in the middle below its tick, but inside the picture.
        let longest = tick.label.len().max(tick.period.as_ref().map_or(0, String::len)) as f64;
        let half = longest * CHARACTER / 2.0;
        let at = x.clamp(half.min(x), (frame.right + RIGHT - half).max(half));
        text(out, (at, frame.bottom + 17.0), "class=\"time\" text-anchor=\"middle\"", &tick.label);
        if let Some(period) = &tick.period {
            text(out, (at, frame.bottom + 32.0), "class=\"time\" text-anchor=\"middle\"", period);
        }
    }
}

/// Writes the legend in as many lines as it needs; returns where the last one ends.
fn legend(out: &mut String, picture: &Picture, left: f64, width: f64) -> f64 {
    let (mut x, mut y) = (left, 58.0);
    for Entry { name, mark } in entries(picture) {
        let name = shortened(&name, ((width - left - RIGHT) / CHARACTER) as usize);
        let needs = 24.0 + name.chars().count() as f64 * CHARACTER;
        if x > left && x + needs > width - RIGHT {
            (x, y) = (left, y + LEGEND_LINE);
        }
        match mark {
            Mark::Line(class) => line(out, class, (x, y - 4.0), (x + 18.0, y - 4.0)),
            Mark::Dot => {
                let _ = write!(
                    out,
                    "<circle class=\"outcome\" cx=\"{}\" cy=\"{}\" r=\"2.5\"/>",
                    number(x + 9.0),
                    number(y - 4.0)
                );
            }
            Mark::Patch(layers) => {
                for _ in 0..layers {
                    let (x, y) = (number(x), number(y - 9.0));
                    let _ =
                        write!(out, "<rect class=\"band\" x=\"{x}\" y=\"{y}\" width=\"18\" height=\"10\"/>");
                }
            }
        }
        text(out, (x + 24.0, y), "class=\"legend\"", &name);
        x += needs + 18.0;
    }
    y
}

fn entries(picture: &Picture) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |there: bool, name: &str, mark: Mark| {
        if there {
            entries.push(Entry { name: name.to_owned(), mark });
        }
    };
    add(!picture.history().is_empty(), &picture.value, Mark::Line("history"));
    add(picture.has(|slot| slot.point.is_some()), "forecast", Mark::Line("forecast"));
    for (band, name) in picture.bands.iter().enumerate() {
        add(
            picture.has(|slot| slot.bands.get(band).is_some_and(Option::is_some)),
            name,
            Mark::Patch(band + 1),
        );
    }
    if let Some(name) = &picture.calibrated {
        add(picture.has(|slot| slot.calibrated.is_some()), name, Mark::Line("calibrated"));
    }
    add(!picture.outcomes().is_empty(), "outcome", Mark::Dot);
    entries
}

/// The picture in words, for those who cannot see it.
fn described(picture: &Picture) -> String {
    let first = picture.slots.first().map(|slot| moment(slot.wall));
    let last = picture.slots.last().map(|slot| moment(slot.wall));
    match (first, last) {
        (Some(first), Some(last)) => format!(
            "{} from {first} to {last} {}: {} bars of history, {} of forecast. A research estimate, no advice or offer.",
            picture.value,
            picture.zone,
            picture.known.min(picture.slots.len()),
            picture.slots.iter().filter(|slot| slot.point.is_some()).count()
        ),
        _ => "no data".to_owned(),
    }
}

/// A run between its lower and its upper line.
fn area(out: &mut String, frame: &Frame, run: &[(usize, Bounds)]) {
    // A single bar is as wide as its room.
    if let [(slot, (lower, upper))] = run {
        let half = (frame.x(1) - frame.x(0)) / 2.0;
        let (x, y) = (frame.x(*slot), frame.y(*upper));
        let _ = write!(
            out,
            "<rect class=\"band\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            number(x - half),
            number(y),
            number(2.0 * half),
            number(frame.y(*lower) - y)
        );
        return;
    }
    out.push_str("<path class=\"band\" d=\"");
    let upper = run.iter().map(|&(slot, (_, upper))| (slot, upper));
    let lower = run.iter().rev().map(|&(slot, (lower, _))| (slot, lower));
    for (index, (slot, value)) in upper.chain(lower).enumerate() {
        point(out, frame, index, slot, value);
    }
    out.push_str("Z\"/>");
}

/// A run as a line; a run of one point is a dot, drawn by the round ends of a line without length.
fn path(out: &mut String, class: &str, frame: &Frame, run: &[(usize, f64)]) {
    let _ = write!(out, "<path class=\"{class}\" d=\"");
    for (index, &(slot, value)) in run.iter().enumerate() {
        point(out, frame, index, slot, value);
    }
    out.push_str(if run.len() == 1 { "h0\"/>" } else { "\"/>" });
}

fn point(out: &mut String, frame: &Frame, index: usize, slot: usize, value: f64) {
    let command = if index == 0 { 'M' } else { 'L' };
    let _ = write!(out, "{command}{},{}", number(frame.x(slot)), number(frame.y(value)));
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = write!(
        out,
        "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
        number(from.0),
        number(from.1),
        number(to.0),
        number(to.1)
    );
}

fn text(out: &mut String, at: (f64, f64), attributes: &str, content: &str) {
    let space = if attributes.is_empty() { "" } else { " " };
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\"{space}{attributes}>{}</text>",
        number(at.0),
        number(at.1),
        escaped(content)
    );
}

/// A coordinate: two decimals at most, the same text for the same number everywhere.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Text as XML may contain it.
fn escaped(content: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::picture::Slot;
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    /// Four bars of 10, 20, a gap and 15, then two steps: the second of these has come.
    fn picture() -> Picture {
        let slot = |hour: i64, actual: Option<f64>, step: Option<(f64, Bounds)>| Slot {
            wall: hour * HOUR,
            actual,
            point: step.map(|(point, _)| point),
            bands: vec![step.map(|(_, bounds)| bounds)],
            calibrated: None,
        };
        Picture {
            title: "A".into(),
            value: "close".into(),
            zone: "UTC".into(),
            slots: vec![
                slot(0, Some(10.0), None),
                slot(1, Some(20.0), None),
                slot(2, None, None),
                slot(3, Some(15.0), None),
                slot(4, None, Some((16.0, (12.0, 20.0)))),
                slot(5, Some(18.0), Some((17.0, (11.0, 20.0)))),
            ],
            known: 4,
            bands: vec!["80 %".into()],
            ..Picture::default()
        }
    }

    /// 300 pixels high: ticks 10, 12, ... 20 would be five steps, there is room for three: 10, 15, 20. The plot goes
    /// from x = 16 + 2 * 6.6 = 29.2 to 382 and from y = 58 + 12 = 70 to 256; a slot is 58.8 wide.
    #[test]
    fn points_lie_where_they_are_computed_by_hand() {
        let drawn = svg(&picture(), 400.0, 300.0);
        let x = |slot: f64| 29.2 + (slot + 0.5) * 352.8 / 6.0;
        let y = |value: f64| 256.0 - (value - 10.0) / 10.0 * 186.0;
        let at = |slot: f64, value: f64| format!("{},{}", number(x(slot)), number(y(value)));
        for path in [
            format!("<path class=\"history\" d=\"M{}L{}\"/>", at(0.0, 10.0), at(1.0, 20.0)),
            format!("<path class=\"history\" d=\"M{}h0\"/>", at(3.0, 15.0)),
            format!(
                "<path class=\"forecast\" d=\"M{}L{}L{}\"/>",
                at(3.0, 15.0),
                at(4.0, 16.0),
                at(5.0, 17.0)
            ),
            format!(
                "<path class=\"band\" d=\"M{}L{}L{}L{}L{}L{}Z\"/>",
                at(3.0, 15.0),
                at(4.0, 20.0),
                at(5.0, 20.0),
                at(5.0, 11.0),
                at(4.0, 12.0),
                at(3.0, 15.0)
            ),
            format!(
                "<circle class=\"outcome\" cx=\"{}\" cy=\"{}\" r=\"2.5\"/>",
                number(x(5.0)),
                number(y(18.0))
            ),
        ] {
            assert!(drawn.contains(&path), "{path} is not in\n{drawn}");
        }
        assert_eq!(
            (number(x(0.0)), number(y(10.0)), number(y(20.0))),
            ("58.6".into(), "256".into(), "70".into())
        );
        assert!(drawn.contains(">15</text>") && !drawn.contains(">12</text>"), "{drawn}");
    }

    #[test]
    fn names_are_escaped_and_cut() {
        let mut picture = picture();
        picture.title = "\"<script>alert(1)</script>&'\u{0}".into();
        picture.value = "x".repeat(1000);
        picture.bands = vec!["]]><b>".into()];
        let drawn = svg(&picture, 400.0, 300.0);
        assert!(drawn.contains("&quot;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#39;\u{fffd}"), "{drawn}");
        assert!(!drawn.contains("<script") && !drawn.contains("<b>"), "{drawn}");
        assert!(
            drawn.contains(&format!("<text x=\"53.2\" y=\"58\" class=\"legend\">{}…</text>", "x".repeat(52)))
        );
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let drawn = svg(&Picture { title: "A".into(), ..Picture::default() }, 400.0, 300.0);
        assert!(drawn.contains(">no data</text>") && drawn.ends_with("</svg>"), "{drawn}");
        assert!(!drawn.contains("NaN"), "{drawn}");
    }

    #[test]
    fn the_same_picture_is_drawn_the_same_and_small_ones_are_whole() {
        assert_eq!(svg(&picture(), 960.0, 420.0), svg(&picture(), 960.0, 420.0));
        let drawn = svg(&picture(), 120.0, 90.0);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }
}
