//! A chart for a terminal: lines in braille, eight dots a character, and intervals as shades behind them.

use super::axis::{Scale, time_ticks};
use super::label::{plain, shortened};
use super::picture::{Bounds, Picture};

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

/// Draws a picture `width` by `height` characters large, headline, legend and axes included.
pub fn text(picture: &Picture, width: usize, height: usize) -> String {
    let mut lines = vec![shortened(&plain(&picture.title), width)];
    if !picture.subtitle.is_empty() {
        lines.push(shortened(&plain(&picture.subtitle), width));
    }
    let rows = height.saturating_sub(lines.len() + 4).max(4);
    let Some(scale) = Scale::of(picture.values(), (rows / 3).clamp(2, 8)) else {
        lines.push("no data".to_owned());
        return lines.join("\n");
    };
    lines.push(shortened(&plain(&legend(picture)), width));
    let margin = scale.ticks().map(|tick| scale.label(tick).len()).max().unwrap_or(0);
    let columns = width.saturating_sub(margin + 2).max(8);
    let mut canvas = Canvas {
        columns,
        rows,
        dots: vec![0; columns * rows],
        glyphs: vec![' '; columns * rows],
        slots: picture.slots.len(),
        scale,
    };
    draw(&mut canvas, picture);
    let mut labels = vec![String::new(); rows];
    for tick in scale.ticks() {
        labels[canvas.y(tick) / 4] = scale.label(tick);
    }
    for (row, label) in labels.iter().enumerate() {
        let edge = if label.is_empty() { '│' } else { '┤' };
        lines.push(format!("{label:>margin$} {edge}{}", canvas.row(row)));
    }
    lines.extend(time_axis(&canvas, picture, margin));
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

fn draw(canvas: &mut Canvas, picture: &Picture) {
    for band in 0..picture.bands.len() {
        let shade = SHADES[band.min(SHADES.len() - 1)];
        for run in picture.ahead(|slot| slot.bands.get(band).copied().flatten(), |value| (value, value)) {
            canvas.between(&run, |canvas, column, top, bottom| {
                for row in top..=bottom {
                    canvas.glyph(column, row, shade);
                }
            });
        }
    }
    for run in picture.ahead(|slot| slot.calibrated, |value| (value, value)) {
        canvas.between(&run, |canvas, column, top, bottom| {
            canvas.glyph(column, top, CALIBRATED);
            canvas.glyph(column, bottom, CALIBRATED);
        });
    }
    if picture.known > 0 && picture.known < picture.slots.len() {
        let column = canvas.x(picture.known - 1).midpoint(canvas.x(picture.known)) / 2;
        for row in 0..canvas.rows {
            canvas.glyph(column, row, '┊');
        }
    }
    for run in picture.history().iter().chain(&picture.ahead(|slot| slot.point, |value| value)) {
        canvas.line(run);
    }
    for (slot, value) in picture.outcomes().into_iter().flatten() {
        let (column, row) = (canvas.x(slot) / 2, canvas.y(value) / 4);
        canvas.glyph(column, row, OUTCOME);
    }
}

fn legend(picture: &Picture) -> String {
    let mut entries = Vec::new();
    if !picture.history().is_empty() {
        entries.push(format!("⠤ {}", picture.value));
    }
    if picture.has(|slot| slot.point.is_some()) {
        entries.push("┊ forecast".to_owned());
    }
    for (band, name) in picture.bands.iter().enumerate() {
        entries.push(format!("{} {name}", SHADES[band.min(SHADES.len() - 1)]));
    }
    if let Some(name) = &picture.calibrated {
        entries.push(format!("{CALIBRATED} {name}"));
    }
    if !picture.outcomes().is_empty() {
        entries.push(format!("{OUTCOME} outcome"));
    }
    entries.join("   ")
}

/// The axis, its labels, and the dates below them.
fn time_axis(canvas: &Canvas, picture: &Picture, margin: usize) -> [String; 3] {
    let walls: Vec<i64> = picture.slots.iter().map(|slot| slot.wall).collect();
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
    use super::super::picture::Slot;
    use super::*;

    fn picture() -> Picture {
        let slot = |hour: i64, actual: Option<f64>, bounds: Option<Bounds>| Slot {
            wall: hour * 3_600_000_000,
            actual,
            point: bounds.map(|(lower, upper)| (lower + upper) / 2.0),
            bands: vec![bounds],
            calibrated: bounds.map(|(lower, upper)| (lower - 1.0, upper + 1.0)),
        };
        Picture {
            title: "A\u{1b}[31m".into(),
            value: "close".into(),
            slots: vec![
                slot(0, Some(1.0), None),
                slot(1, Some(1.0), None),
                slot(2, None, None),
                slot(3, Some(3.0), None),
                slot(4, None, Some((2.0, 4.0))),
                slot(5, Some(5.0), Some((1.0, 5.0))),
            ],
            known: 4,
            bands: vec!["80 %".into()],
            calibrated: Some("80 %, calibrated".into()),
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

    /// Ten rows have forty dots: a line from the bottom left to the top right sets the first and the last of them.
    #[test]
    fn lines_reach_from_end_to_end() {
        let slots = (0..10).map(|i| Slot { wall: i, actual: Some(i as f64), ..Slot::default() }).collect();
        let picture = Picture { slots, known: 10, ..Picture::default() };
        let scale = Scale::of([0.0, 9.0].into_iter(), 3).unwrap();
        let mut canvas =
            Canvas { columns: 10, rows: 10, dots: vec![0; 100], glyphs: vec![' '; 100], slots: 10, scale };
        draw(&mut canvas, &picture);
        // The axis goes from 0 to 10: nine tenths of 39 dots from the bottom is dot row 4 from the top.
        let dots = |character: Option<char>| character.map_or(0, |c| c as u32 - 0x2800);
        assert_eq!(dots(canvas.row(1).chars().last()) & 0x08, 0x08, "{}", canvas.row(1));
        assert_eq!(dots(canvas.row(9).chars().next()) & 0x80, 0x80, "{}", canvas.row(9));
        assert_eq!(canvas.row(0).trim(), "");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(text(&Picture { title: "A".into(), ..Picture::default() }, 40, 20), "A\nno data");
    }
}
