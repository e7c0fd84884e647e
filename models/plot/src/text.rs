//! A chart for a terminal: lines in braille, eight dots a character, and intervals as shades behind them.

use super::axis::{Scale, time_ticks};
use super::label::{plain, shortened, wrapped};
use super::picture::{Bounds, Forecast, Panel, Picture};

/// The bits of a braille character by column and by row from the top.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Shades of bands, the widest first; further ones are drawn as the last.
const SHADES: [char; 3] = ['░', '▒', '▓'];

/// The edges of a calibrated interval.
const CALIBRATED: char = '╌';

/// What came after the cutoff.
const OUTCOME: char = '•';

/// A field of characters, each with braille dots or a glyph.
struct Canvas {
    columns: usize,
    rows: usize,
    dots: Vec<u32>,
    glyphs: Vec<char>,
    slots: usize,
    scale: Scale,
}

impl Canvas {
    /// The dot column of a slot; slots of a long history share some.
    fn x(&self, slot: usize) -> usize {
        (2 * slot + 1) * self.columns / self.slots.max(1)
    }

    /// The dot row of a value, from the top.
    fn y(&self, value: f64) -> usize {
        let dots = (4 * self.rows - 1) as f64;
        (dots - self.scale.position(value) * dots).round().clamp(0.0, dots) as usize
    }

    fn dot(&mut self, x: usize, y: usize) {
        if let Some(cell) = self.dots.get_mut((y / 4) * self.columns + (x / 2).min(self.columns - 1)) {
            *cell |= DOTS[x % 2][y % 4];
        }
    }

    fn glyph(&mut self, column: usize, row: usize, glyph: char) {
        if let Some(cell) = self.glyphs.get_mut(row * self.columns + column) {
            *cell = glyph;
        }
    }

    /// Joins the points of a run.
    fn line(&mut self, run: &[(usize, f64)]) {
        if let [(slot, value)] = *run {
            self.dot(self.x(slot), self.y(value));
        }
        for pair in run.windows(2) {
            let from = (self.x(pair[0].0) as f64, self.y(pair[0].1) as f64);
            let to = (self.x(pair[1].0) as f64, self.y(pair[1].1) as f64);
            let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1.0);
            for step in 0..=steps as usize {
                let share = step as f64 / steps;
                let at = |from: f64, to: f64| (from + share * (to - from)).round() as usize;
                self.dot(at(from.0, to.0), at(from.1, to.1));
            }
        }
    }

    /// Calls `draw` with every column of a run of bounds and the rows of both, interpolated between slots.
    fn between(&mut self, run: &[(usize, Bounds)], draw: impl Fn(&mut Self, usize, usize, usize)) {
        let place = |canvas: &Self, (slot, (lower, upper)): (usize, Bounds)| {
            (canvas.x(slot) / 2, canvas.y(lower) as f64, canvas.y(upper) as f64)
        };
        for pair in run.windows(2).map(|pair| (pair[0], pair[1])).chain(run.last().map(|&last| (last, last)))
        {
            let (from, to) = (place(self, pair.0), place(self, pair.1));
            for column in from.0..=to.0 {
                let share = (column - from.0) as f64 / (to.0 - from.0).max(1) as f64;
                let row = |from: f64, to: f64| ((from + share * (to - from)) / 4.0) as usize;
                draw(self, column, row(from.2, to.2), row(from.1, to.1));
            }
        }
    }

    fn row(&self, row: usize) -> String {
        let cells = row * self.columns..(row + 1) * self.columns;
        let character = |(&dots, &glyph): (&u32, &char)| match glyph {
            OUTCOME => OUTCOME,
            _ if dots > 0 => char::from_u32(0x2800 + dots).unwrap_or(' '),
            other => other,
        };
        self.dots[cells.clone()].iter().zip(&self.glyphs[cells]).map(character).collect()
    }
}

/// Lines of a headline, and of the line below it.
const HEADLINES: usize = 3;

/// Draws a picture `width` characters wide whose charts are `height` lines high, headline, legend and axes included.
///
/// Characters have no colours, so series and forecasts stand below each other, each with a chart of its own.
pub fn text(picture: &Picture, width: usize, height: usize) -> String {
    let mut lines = wrapped(&plain(&picture.title), width, HEADLINES);
    lines.extend(wrapped(&plain(&picture.subtitle), width, HEADLINES));
    let note = wrapped(&plain(&picture.note), width, 2);
    let charts: Vec<(String, Panel)> = picture.panels.iter().flat_map(separate).collect();
    let mut room = height.saturating_sub(lines.len() + note.len());
    for (title, panel) in &charts {
        if !title.is_empty() {
            lines.push(shortened(&plain(title), width));
            room = room.saturating_sub(1);
        }
        chart(&mut lines, panel, width, room);
        room = height;
    }
    lines.extend(note);
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// A panel as one chart for each of its forecasts.
fn separate(panel: &Panel) -> Vec<(String, Panel)> {
    if panel.forecasts.len() < 2 {
        return vec![(panel.title.clone(), panel.clone())];
    }
    let alone = |forecast: &Forecast| {
        let parts = [panel.title.as_str(), forecast.name.as_str()];
        let title = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ");
        (title, Panel { forecasts: vec![forecast.clone()], ..panel.clone() })
    };
    panel.forecasts.iter().map(alone).collect()
}

/// One chart in `room` lines.
fn chart(lines: &mut Vec<String>, panel: &Panel, width: usize, room: usize) {
    let rows = room.saturating_sub(4).max(4);
    let values = Panel { candles: false, ..panel.clone() };
    let Some(scale) = Scale::of(values.values(), (rows / 3).clamp(2, 8)) else {
        return lines.push("no data".to_owned());
    };
    lines.push(shortened(&plain(&legend(panel)), width));
    let margin = scale.ticks().map(|tick| scale.label(tick).len()).max().unwrap_or(0);
    let columns = width.saturating_sub(margin + 2).max(8);
    let mut canvas = Canvas {
        columns,
        rows,
        dots: vec![0; columns * rows],
        glyphs: vec![' '; columns * rows],
        slots: panel.slots.len(),
        scale,
    };
    draw(&mut canvas, panel);
    let mut labels = vec![String::new(); rows];
    for tick in scale.ticks() {
        labels[canvas.y(tick) / 4] = scale.label(tick);
    }
    for (row, label) in labels.iter().enumerate() {
        let edge = if label.is_empty() { '│' } else { '┤' };
        lines.push(format!("{label:>margin$} {edge}{}", canvas.row(row)));
    }
    lines.extend(time_axis(&canvas, panel, margin));
}

fn draw(canvas: &mut Canvas, panel: &Panel) {
    for forecast in &panel.forecasts {
        for band in 0..forecast.bands.len() {
            let shade = SHADES[band.min(SHADES.len() - 1)];
            let bounds = |bands: &Vec<Option<Bounds>>| bands.get(band).copied().flatten();
            for run in panel.ahead(forecast, |step| bounds(&step.bands), |value| (value, value)) {
                canvas.between(&run, |canvas, column, top, bottom| {
                    for row in top..=bottom {
                        canvas.glyph(column, row, shade);
                    }
                });
            }
        }
        for run in panel.ahead(forecast, |step| step.calibrated, |value| (value, value)) {
            canvas.between(&run, |canvas, column, top, bottom| {
                canvas.glyph(column, top, CALIBRATED);
                canvas.glyph(column, bottom, CALIBRATED);
            });
        }
    }
    if panel.known > 0 && panel.known < panel.slots.len() {
        let column = canvas.x(panel.known - 1).midpoint(canvas.x(panel.known)) / 2;
        for row in 0..canvas.rows {
            canvas.glyph(column, row, '┊');
        }
    }
    for run in panel.history() {
        canvas.line(&run);
    }
    for forecast in &panel.forecasts {
        for run in panel.ahead(forecast, |step| step.point, |value| value) {
            canvas.line(&run);
        }
    }
    for (slot, value) in panel.outcomes().into_iter().flatten() {
        let (column, row) = (canvas.x(slot) / 2, canvas.y(value) / 4);
        canvas.glyph(column, row, OUTCOME);
    }
}

fn legend(panel: &Panel) -> String {
    let mut entries = Vec::new();
    if !panel.history().is_empty() {
        entries.push(format!("⠤ {}", panel.value));
    }
    if panel.has(|step| step.point.is_some()) {
        entries.push("┊ forecast".to_owned());
    }
    for forecast in &panel.forecasts {
        for (band, name) in forecast.bands.iter().enumerate() {
            entries.push(format!("{} {name}", SHADES[band.min(SHADES.len() - 1)]));
        }
        if let Some(name) = &forecast.calibrated {
            entries.push(format!("{CALIBRATED} {name}"));
        }
    }
    if !panel.outcomes().is_empty() {
        entries.push(format!("{OUTCOME} outcome"));
    }
    entries.join("   ")
}

/// The axis, its labels, and the dates below them.
fn time_axis(canvas: &Canvas, panel: &Panel, margin: usize) -> [String; 3] {
    let walls: Vec<i64> = panel.slots.iter().map(|slot| slot.wall).collect();
    let apart = (12 * canvas.slots).div_ceil(canvas.columns);
    let mut axis: Vec<char> = vec!['─'; canvas.columns];
    // A label may reach a little beyond the canvas, but not beyond the picture.
    let indent = margin + 2;
    let mut below = [vec![' '; indent + canvas.columns], vec![' '; indent + canvas.columns]];
    let mut write = |line: usize, column: usize, label: &str| {
        let most = (indent + canvas.columns).saturating_sub(label.len());
        let from = (indent + column).saturating_sub(label.len() / 2).min(most);
        for (place, character) in label.chars().enumerate() {
            if let Some(cell) = below[line].get_mut(from + place) {
                *cell = character;
            }
        }
    };
    for tick in time_ticks(&walls, (canvas.columns / 12).max(1), apart) {
        let column = canvas.x(tick.slot) / 2;
        if let Some(cell) = axis.get_mut(column) {
            *cell = '┬';
        }
        write(0, column, &tick.label);
        if let Some(period) = &tick.period {
            write(1, column, period);
        }
    }
    let [times, dates] = below.map(|line| line.into_iter().collect::<String>());
    [format!("{:margin$} └{}", "", axis.into_iter().collect::<String>()), times, dates]
}

#[cfg(test)]
mod tests {
    use super::super::picture::{Slot, Step};
    use super::*;

    fn picture() -> Picture {
        let slot = |hour: i64, actual: Option<f64>| Slot { wall: hour * 3_600_000_000, actual, range: None };
        let step = |slot: usize, lower: f64, upper: f64| Step {
            slot,
            point: Some((lower + upper) / 2.0),
            bands: vec![Some((lower, upper))],
            calibrated: Some((lower - 1.0, upper + 1.0)),
        };
        let actual = [Some(1.0), Some(1.0), None, Some(3.0), None, Some(5.0)];
        Picture {
            title: "A\u{1b}[31m".into(),
            panels: vec![Panel {
                value: "close".into(),
                slots: actual
                    .into_iter()
                    .enumerate()
                    .map(|(hour, actual)| slot(hour as i64, actual))
                    .collect(),
                known: 4,
                forecasts: vec![Forecast {
                    name: "m".into(),
                    known: 4,
                    steps: vec![step(4, 2.0, 4.0), step(5, 1.0, 5.0)],
                    bands: vec!["80 %".into()],
                    calibrated: Some("80 %, calibrated".into()),
                }],
                ..Panel::default()
            }],
            ..Picture::default()
        }
    }

    #[test]
    fn a_chart_of_characters() {
        let drawn = text(&picture(), 30, 13);
        let expected = ["A�[31m", "⠤ close   ┊ forecast   ░ 80 %…"];
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[..2], expected);
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{drawn}");
        assert_eq!(lines.len(), 13, "{drawn}");
        assert!(
            drawn.contains('•') && drawn.contains('░') && drawn.contains('╌') && drawn.contains('┊'),
            "{drawn}"
        );
    }

    #[test]
    fn forecasts_stand_below_each_other_and_the_note_last() {
        let mut picture = picture();
        let mut other = picture.panels[0].forecasts[0].clone();
        other.name = "n".into();
        picture.panels[0].forecasts.push(other);
        picture.note = "A note.".into();
        let drawn = text(&picture, 40, 12);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!((lines[1], lines.last()), ("m", Some(&"A note.")), "{drawn}");
        assert!(lines.contains(&"n") && drawn.matches("⠤ close").count() == 2, "{drawn}");
    }

    /// Ten rows have forty dots: a line from the bottom left to the top right sets the first and the last of them.
    #[test]
    fn lines_reach_from_end_to_end() {
        let slots = (0..10).map(|i| Slot { wall: i, actual: Some(i as f64), range: None }).collect();
        let panel = Panel { slots, known: 10, ..Panel::default() };
        let scale = Scale::of([0.0, 9.0].into_iter(), 3).unwrap();
        let mut canvas =
            Canvas { columns: 10, rows: 10, dots: vec![0; 100], glyphs: vec![' '; 100], slots: 10, scale };
        draw(&mut canvas, &panel);
        // The axis goes from 0 to 9.36: 9 is 37.5 of 39 dots from the bottom, in the top row of characters.
        let dots = |character: Option<char>| character.map_or(0, |c| c as u32 - 0x2800);
        assert_ne!(dots(canvas.row(0).chars().last()), 0, "{}", canvas.row(0));
        assert_eq!(dots(canvas.row(9).chars().next()) & 0x80, 0x80, "{}", canvas.row(9));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let picture = Picture { title: "A".into(), panels: vec![Panel::default()], ..Picture::default() };
        assert_eq!(text(&picture, 40, 20), "A\nno data");
    }
}
