//! What the marks of a picture mean.

use super::super::label::{width, wrapped};
use super::super::picture::{Panel, Picture};
use super::markup::{dot, line, number, path, rect, text};
use super::{CHARACTER, MARGIN, panel};

const LINE: f64 = 18.0;

/// The room of a mark with the space behind it.
const MARK: f64 = 26.0;

/// Between two entries.
const APART: f64 = 18.0;

/// An entry: its name, and the mark drawn beside it.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    name: String,
    mark: Mark,
}

#[derive(Debug, Clone, PartialEq)]
enum Mark {
    /// A line of a class.
    Line(String),
    /// So many bands of a forecast on top of each other.
    Patch(usize, usize),
    /// A dot of what came.
    Dot,
    /// A rise and a fall of a class.
    Candles(&'static str),
}

/// Writes the legend in as many lines as it needs, from the line at `y` on; returns where the last one is.
pub(super) fn draw(out: &mut String, picture: &Picture, frames: &[bool], y: f64, right: f64) -> f64 {
    let (mut x, mut y) = (MARGIN, y);
    let most = ((right - MARGIN - MARK) / CHARACTER) as usize;
    for Entry { name, mark } in entries(picture, frames) {
        let lines = wrapped(&name, most, 3);
        let needs = MARK + lines.iter().map(|line| width(line)).max().unwrap_or(0) as f64 * CHARACTER;
        if x > MARGIN && x + needs > right {
            (x, y) = (MARGIN, y + LINE);
        }
        draw_mark(out, &mark, x, y);
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                y += 14.0;
            }
            text(out, (x + MARK, y), "class=\"legend\"", line);
        }
        x += needs + APART;
    }
    y
}

fn draw_mark(out: &mut String, mark: &Mark, x: f64, y: f64) {
    match mark {
        Mark::Line(class) => line(out, class, (x, y - 4.0), (x + 20.0, y - 4.0)),
        Mark::Dot => dot(out, "outcome", (x + 10.0, y - 4.0), 2.5),
        Mark::Patch(forecast, layers) => {
            for _ in 0..*layers {
                rect(out, &format!("band f{forecast}"), (x, y - 9.0), (20.0, 10.0));
            }
        }
        Mark::Candles(kind) => {
            for (at, direction) in [(x + 6.0, "up"), (x + 15.0, "down")] {
                let at = at.floor() + 0.5;
                path(out, &format!("wick {kind}"), &format!("M{},{}v12", number(at), number(y - 10.0)));
                let class = format!("body {direction} {kind}");
                rect(out, &class, (at - 2.5, y - 7.5), (5.0, 6.0));
            }
        }
    }
}

/// The entries of all panels, each once; `frames` says of each panel whether its bars are drawn whole.
fn entries(picture: &Picture, frames: &[bool]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (panel, &candles) in picture.panels.iter().zip(frames) {
        for entry in of_panel(panel, candles) {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
    }
    entries
}

fn of_panel(panel: &Panel, candles: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |there: bool, name: String, mark: Mark| {
        if there {
            entries.push(Entry { name, mark });
        }
    };
    let bars = if candles { Mark::Candles("history") } else { Mark::Line("history".into()) };
    let known = if candles { "bar, hollow where it rose".to_owned() } else { panel.value.clone() };
    add(!panel.history().is_empty(), known, bars);
    let several = panel.forecasts.len() > 1;
    for (index, forecast) in panel.forecasts.iter().enumerate() {
        let has = |any: &dyn Fn(&super::super::picture::Step) -> bool| forecast.steps.iter().any(any);
        let name = if several { forecast.name.clone() } else { "forecast".to_owned() };
        let of = |part: &str| if several { format!("{}, {part}", forecast.name) } else { part.to_owned() };
        add(has(&|step| step.point.is_some()), name, Mark::Line(panel::forecast_class(index)));
        for (band, name) in forecast.bands.iter().enumerate() {
            let there = has(&|step| step.bands.get(band).is_some_and(Option::is_some));
            add(there, of(name), Mark::Patch(index, band + 1));
        }
        if let Some(name) = &forecast.calibrated {
            let mark = Mark::Line(format!("calibrated f{index}"));
            add(has(&|step| step.calibrated.is_some()), of(name), mark);
        }
    }
    let came = if candles { Mark::Candles("outcome") } else { Mark::Dot };
    add(!panel.outcomes().is_empty(), "outcome".to_owned(), came);
    entries
}
