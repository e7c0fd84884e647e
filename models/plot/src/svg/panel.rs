//! One series on its axes.

use super::super::axis::{Scale, time_ticks};
use super::super::label::wrapped;
use super::super::picture::{Bounds, Panel, Slot};
use super::markup::{dot, line, number, path, rect, text, trace};
use super::{CHARACTER, MARGIN};
use std::fmt::Write;

/// Right of the last bar.
pub(super) const RIGHT: f64 = 18.0;

/// Below the axis, for times and dates.
const BOTTOM: f64 = 44.0;

/// The least room of a bar that is drawn whole; narrower ones are a line.
const CANDLE: f64 = 3.0;

/// Where a panel lies, in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

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
    /// The room of a slot.
    fn wide(&self) -> f64 {
        (self.right - self.left) / self.slots.max(1) as f64
    }

    /// The middle of a slot's room.
    fn x(&self, slot: usize) -> f64 {
        self.left + (slot as f64 + 0.5) * self.wide()
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.scale.position(value) * (self.bottom - self.top)
    }

    fn at(&self, (slot, value): (usize, f64)) -> (f64, f64) {
        (self.x(slot), self.y(value))
    }
}

/// The class of a forecast's line.
pub(super) fn forecast_class(index: usize) -> String {
    format!("forecast f{index}")
}

/// Whether the bars of a panel are drawn whole in a room so wide.
pub(super) fn has_candles(panel: &Panel, room: f64) -> bool {
    panel.candles && (room - 80.0) / panel.slots.len().max(1) as f64 >= CANDLE
}

/// Draws one panel with its title, where it has one.
pub(super) fn draw(out: &mut String, panel: &Panel, candles: bool, room: Room) {
    let mut top = room.top;
    if !panel.title.is_empty() {
        for line in wrapped(&panel.title, ((room.width - MARGIN) / (1.1 * CHARACTER)) as usize, 2) {
            top += 15.0;
            text(out, (room.left, top), "class=\"panel\"", &line);
        }
        top += 8.0;
    }
    let bottom = room.top + room.height;
    let intervals = ((bottom - BOTTOM - top) / 50.0).clamp(2.0, 10.0) as usize;
    let Some(scale) = Scale::of(panel.values(), intervals) else {
        let size = (room.width - RIGHT + 2.0, (bottom - top - 16.0).max(1.0));
        let _ = write!(out, "<g fill=\"none\">");
        rect(out, "axis", (room.left, top), size);
        out.push_str("</g>");
        let middle = (room.left + size.0 / 2.0, top + size.1 / 2.0);
        return text(out, middle, "class=\"empty\" text-anchor=\"middle\"", "no data");
    };
    let labels: Vec<(f64, String)> = scale.ticks().map(|tick| (tick, scale.label(tick))).collect();
    let longest = labels.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
    let left = room.left + longest as f64 * CHARACTER;
    let bottom = (bottom - BOTTOM).max(top + 1.0);
    let right = (room.left + room.width - RIGHT).max(left + 1.0);
    let frame = Frame { left, right, top, bottom, slots: panel.slots.len(), scale };
    for (tick, label) in &labels {
        let y = frame.y(*tick);
        line(out, "grid", (frame.left, y), (frame.right, y));
        text(out, (frame.left - 8.0, y + 4.0), "class=\"price\" text-anchor=\"end\"", label);
    }
    time_axis(out, panel, &frame);
    marks(out, panel, &frame, candles);
}

/// Bands below lines, and what happened above what was said of it.
fn marks(out: &mut String, panel: &Panel, frame: &Frame, candles: bool) {
    for (index, forecast) in panel.forecasts.iter().enumerate() {
        for band in 0..forecast.bands.len() {
            let of = |bounds: &Vec<Option<Bounds>>| bounds.get(band).copied().flatten();
            for run in panel.ahead(forecast, |step| of(&step.bands), |value| (value, value)) {
                area(out, index, frame, &run);
            }
        }
    }
    if panel.known > 0 && panel.known < frame.slots {
        let x = (frame.x(panel.known - 1) + frame.x(panel.known)) / 2.0;
        line(out, "cutoff", (x, frame.top), (x, frame.bottom));
    }
    for (index, forecast) in panel.forecasts.iter().enumerate() {
        for side in [|bounds: Bounds| bounds.0, |bounds: Bounds| bounds.1] {
            for run in panel.ahead(forecast, |step| step.calibrated.map(side), |value| value) {
                run_of(out, &format!("calibrated f{index}"), frame, &run);
            }
        }
    }
    if candles {
        let (known, came) = panel.slots.split_at(panel.known.min(panel.slots.len()));
        draw_candles(out, "history", frame, known, 0);
        draw_candles(out, "outcome", frame, came, known.len());
    } else {
        for run in panel.history() {
            run_of(out, "history", frame, &run);
        }
    }
    for (index, forecast) in panel.forecasts.iter().enumerate() {
        for run in panel.ahead(forecast, |step| step.point, |value| value) {
            run_of(out, &forecast_class(index), frame, &run);
        }
    }
    if !candles {
        for run in panel.came() {
            if run.len() > 1 {
                path(out, "outcome-line", &trace(run.iter().map(|&point| frame.at(point))));
            }
        }
        for point in panel.outcomes().into_iter().flatten() {
            dot(out, "outcome", frame.at(point), 2.5);
        }
    }
}

fn time_axis(out: &mut String, panel: &Panel, frame: &Frame) {
    line(out, "axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
    let walls: Vec<i64> = panel.slots.iter().map(|slot| slot.wall).collect();
    let apart = (58.0 / frame.wide()).ceil() as usize;
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

/// Bars as candlesticks, hollow where the close is not below the open: one path for each kind, however many there are.
fn draw_candles(out: &mut String, kind: &str, frame: &Frame, slots: &[Slot], first: usize) {
    let (mut wicks, mut up, mut down) = (String::new(), String::new(), String::new());
    let half = (0.32 * frame.wide()).clamp(0.8, 7.0);
    for (index, slot) in slots.iter().enumerate() {
        let Some(close) = slot.actual else { continue };
        let x = frame.x(first + index);
        let Some(range) = slot.range else {
            // A close by itself is a stroke at its height.
            let _ = write!(wicks, "M{},{}h{}", number(x - half), number(frame.y(close)), number(2.0 * half));
            continue;
        };
        let (high, low) = (range.high.max(range.open).max(close), range.low.min(range.open).min(close));
        let _ = write!(wicks, "M{},{}V{}", number(x), number(frame.y(high)), number(frame.y(low)));
        let (top, bottom) = (frame.y(range.open.max(close)), frame.y(range.open.min(close)));
        let (top, height) =
            if bottom - top < 1.0 { ((top + bottom) / 2.0 - 0.5, 1.0) } else { (top, bottom - top) };
        let body = if close >= range.open { &mut up } else { &mut down };
        let (left, wide) = (number(x - half), number(2.0 * half));
        let _ = write!(body, "M{left},{}h{wide}v{}h-{wide}z", number(top), number(height));
    }
    for (shape, d) in [("wick", wicks), ("body up", up), ("body down", down)] {
        if !d.is_empty() {
            path(out, &format!("{shape} {kind}"), &d);
        }
    }
}

/// A run between its lower and its upper line.
fn area(out: &mut String, forecast: usize, frame: &Frame, run: &[(usize, Bounds)]) {
    let class = format!("band f{forecast}");
    // A single bar is as wide as its room.
    if let [(slot, (lower, upper))] = *run {
        let (x, y) = frame.at((slot, upper));
        let wide = frame.wide();
        return rect(out, &class, (x - wide / 2.0, y), (wide, frame.y(lower) - y));
    }
    let upper = run.iter().map(|&(slot, (_, upper))| (slot, upper));
    let lower = run.iter().rev().map(|&(slot, (lower, _))| (slot, lower));
    path(out, &class, &format!("{}Z", trace(upper.chain(lower).map(|point| frame.at(point)))));
}

/// A run as a line; a run of one point is a dot that can be seen.
fn run_of(out: &mut String, class: &str, frame: &Frame, run: &[(usize, f64)]) {
    match *run {
        [point] => dot(out, class.rsplit(' ').next().unwrap_or(class), frame.at(point), 3.0),
        _ => path(out, class, &trace(run.iter().map(|&point| frame.at(point)))),
    }
}
