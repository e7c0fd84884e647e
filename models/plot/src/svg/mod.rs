//! A chart as SVG: text that every browser, viewer and dashboard draws.

mod legend;
mod markup;
mod panel;
mod theme;

use super::axis::moment;
use super::label::wrapped;
use super::picture::Picture;
use markup::{escaped, number, text};
use panel::{RIGHT, Room};
use std::fmt::Write;
pub use theme::{MOST_FORECASTS, Theme};

/// Mean width of a character of the small text, in pixels; wide enough for digits.
const CHARACTER: f64 = 6.6;

/// Characters of the headline in their own size.
const HEADLINE_CHARACTER: f64 = 8.6;

/// Left of everything.
const MARGIN: f64 = 16.0;

/// The least width of a panel beside another.
const PANEL_WIDTH: f64 = 300.0;

/// Lines of a headline, and of the line below it.
const HEADLINES: usize = 4;

/// Draws a picture `width` by `height` pixels large.
pub fn svg(picture: &Picture, theme: Theme, width: f64, height: f64) -> String {
    let mut out = String::new();
    let forecasts = picture.panels.iter().map(|panel| panel.forecasts.len()).max().unwrap_or(0);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{}\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\">\
         <title>{}</title><desc>{}</desc><style>{}</style><rect class=\"ground\" width=\"{w}\" height=\"{h}\"/>",
        theme::class(theme),
        escaped(&picture.title),
        escaped(&described(picture)),
        theme::style(theme, forecasts),
        w = number(width),
        h = number(height),
    );
    let mut top = headline(&mut out, picture, width);
    let columns = columns(picture.panels.len(), width);
    let wide = (width - MARGIN) / columns as f64;
    let candles: Vec<bool> = picture.panels.iter().map(|panel| panel::has_candles(panel, wide)).collect();
    top = legend::draw(&mut out, picture, &candles, top + 18.0, width - RIGHT) + 12.0;
    let note = if picture.note.is_empty() { 0.0 } else { 16.0 };
    let rows = picture.panels.len().div_ceil(columns).max(1);
    let high = ((height - top - note) / rows as f64).max(1.0);
    for (index, (panel, &candles)) in picture.panels.iter().zip(&candles).enumerate() {
        let (row, column) = (index / columns, index % columns);
        let (left, top) = (MARGIN + column as f64 * wide, top + row as f64 * high);
        panel::draw(&mut out, panel, candles, Room { left, top, width: wide, height: high });
    }
    if !picture.note.is_empty() {
        text(&mut out, (MARGIN, height - 8.0), "class=\"note\"", &picture.note);
    }
    out.push_str("</svg>");
    out
}

/// The height at which so many panels of a picture `width` pixels wide have their usual shape.
pub fn usual_height(panels: usize, width: f64) -> f64 {
    match panels.div_ceil(columns(panels, width)) {
        0 | 1 => 420.0,
        rows => 90.0 + 250.0 * rows as f64,
    }
}

/// How many panels stand beside each other: as many as make the grid nearly square.
fn columns(panels: usize, width: f64) -> usize {
    let square = (panels as f64).sqrt().ceil() as usize;
    square.min((width / PANEL_WIDTH) as usize).max(1)
}

/// Writes the headline in as many lines as it needs; returns where the last one is.
fn headline(out: &mut String, picture: &Picture, width: f64) -> f64 {
    let room = |character: f64| ((width - 2.0 * RIGHT) / character) as usize;
    let mut y = 4.0;
    for line in wrapped(&picture.title, room(HEADLINE_CHARACTER), HEADLINES) {
        y += 18.0;
        text(out, (MARGIN, y), "class=\"title\"", &line);
    }
    y += 2.0;
    for line in wrapped(&picture.subtitle, room(CHARACTER), HEADLINES) {
        y += 16.0;
        text(out, (MARGIN, y), "", &line);
    }
    y
}

/// The picture in words, for those who cannot see it.
fn described(picture: &Picture) -> String {
    let mut words = Vec::new();
    for panel in &picture.panels {
        let name = if panel.title.is_empty() { &panel.value } else { &panel.title };
        let span = match (panel.slots.first(), panel.slots.last()) {
            (Some(first), Some(last)) => {
                format!("from {} to {} {}", moment(first.wall), moment(last.wall), picture.zone)
            }
            _ => "no data".to_owned(),
        };
        let known = panel.known.min(panel.slots.len());
        let steps = panel.forecasts.iter().map(|forecast| forecast.steps.len()).max().unwrap_or(0);
        words.push(format!("{name} {span}: {known} bars of history, {steps} of forecast."));
    }
    words.push(picture.note.clone());
    words.join(" ").trim_end().to_owned()
}

#[cfg(test)]
mod tests;
