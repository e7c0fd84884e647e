//! Colours on a light and on a dark ground.
//!
//! What was known is grey, what came is vermilion, and what was said has a hue and, from the second forecast on, a dash
//! of its own: told apart by people who see few colours, and in print. Nothing depends on red against green.

use std::fmt::Write;

/// The ground that a chart is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// Whatever the reader's screen prefers (`prefers-color-scheme`).
    #[default]
    Auto,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// Most forecasts of one series that can be told apart.
pub const MOST_FORECASTS: usize = 6;

/// Colours as `#rrggbb`.
pub(super) struct Colours {
    pub ground: &'static str,
    pub title: &'static str,
    pub text: &'static str,
    pub axis: &'static str,
    pub grid: &'static str,
    pub history: &'static str,
    pub outcome: &'static str,
    pub forecasts: [&'static str; MOST_FORECASTS],
}

pub(super) const LIGHT: Colours = Colours {
    ground: "#ffffff",
    title: "#1f2328",
    text: "#5b626b",
    axis: "#9aa1a9",
    grid: "#e6e8eb",
    history: "#30363d",
    outcome: "#d1490c",
    forecasts: ["#0069b4", "#00875f", "#a8327e", "#8a6100", "#5b3fc4", "#0e7c86"],
};

pub(super) const DARK: Colours = Colours {
    ground: "#16181d",
    title: "#e9ebee",
    text: "#a6adb8",
    axis: "#6b7280",
    grid: "#2a2e36",
    history: "#d5dae1",
    outcome: "#f26c2a",
    forecasts: ["#5cb3ff", "#1fb98c", "#d35fa8", "#e8bb3f", "#b3a2ff", "#4fd4de"],
};

const DASHES: [&str; MOST_FORECASTS] = ["", "8 3", "2 3", "9 3 2 3", "5 5", "12 3 2 3 2 3"];

/// Rules that no ground changes. All are bound to the picture's root: an SVG within a page shares its style sheet.
const SHAPES: &[(&str, &str)] = &[
    ("text", "font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"),
    (".title", "font-size:15px;font-weight:600"),
    (".panel", "font-weight:600"),
    (".note", "font-size:10.5px"),
    (".grid,.axis,.cutoff", "shape-rendering:crispEdges"),
    (
        ".history,.forecast,.calibrated,.outcome-line,.wick",
        "fill:none;stroke-linejoin:round;stroke-linecap:round",
    ),
    (".history", "stroke-width:1.5"),
    (".wick,.body", "stroke-width:1"),
    (".forecast", "stroke-width:2"),
    (".band", "fill-opacity:.2"),
    (".calibrated", "stroke-width:1.4;stroke-dasharray:5 4"),
    (".outcome-line", "stroke-width:1.5"),
    (".cutoff", "stroke-dasharray:2 3"),
];

/// The style sheet of a picture with so many forecasts of one series.
pub(super) fn style(theme: Theme, forecasts: usize) -> String {
    let mut css = String::new();
    for (selectors, rules) in SHAPES {
        rule(&mut css, theme, selectors, rules);
    }
    for (index, dash) in DASHES.iter().enumerate().take(forecasts).skip(1) {
        rule(&mut css, theme, &format!(".f{index}.forecast"), &format!("stroke-dasharray:{dash}"));
    }
    match theme {
        Theme::Light => colours(&mut css, theme, &LIGHT, forecasts),
        Theme::Dark => colours(&mut css, theme, &DARK, forecasts),
        Theme::Auto => {
            colours(&mut css, theme, &LIGHT, forecasts);
            css.push_str("@media(prefers-color-scheme:dark){");
            colours(&mut css, theme, &DARK, forecasts);
            css.push('}');
        }
    }
    css
}

/// The class of the root element, which keeps charts of different grounds on one page apart.
pub(super) fn class(theme: Theme) -> &'static str {
    match theme {
        Theme::Auto => "kronos",
        Theme::Light => "kronos-light",
        Theme::Dark => "kronos-dark",
    }
}

fn colours(css: &mut String, theme: Theme, colours: &Colours, forecasts: usize) {
    let Colours { ground, title, text, axis, grid, history, outcome, .. } = colours;
    for (selectors, rules) in [
        (".ground,.up", format!("fill:{ground}")),
        ("text", format!("fill:{text}")),
        (".title,.panel", format!("fill:{title}")),
        (".axis,.cutoff", format!("stroke:{axis}")),
        (".grid", format!("stroke:{grid}")),
        (".history,.wick,.body", format!("stroke:{history}")),
        (".dot,.down", format!("fill:{history}")),
        (".outcome-line,.wick.outcome,.body.outcome", format!("stroke:{outcome}")),
        (".dot.outcome,.down.outcome", format!("fill:{outcome}")),
    ] {
        rule(css, theme, selectors, &rules);
    }
    for (index, colour) in colours.forecasts.iter().enumerate().take(forecasts) {
        rule(css, theme, &format!(".forecast.f{index},.calibrated.f{index}"), &format!("stroke:{colour}"));
        rule(css, theme, &format!(".band.f{index},.dot.f{index}"), &format!("fill:{colour}"));
    }
}

fn rule(css: &mut String, theme: Theme, selectors: &str, rules: &str) {
    for (index, selector) in selectors.split(',').enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(css, "{comma}.{} {selector}", class(theme));
    }
    let _ = write!(css, "{{{rules}}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red, green and blue of a colour as light, from 0 to 1.
    fn linear(colour: &str) -> [f64; 3] {
        [1, 3, 5].map(|at| {
            let channel = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// Contrast of WCAG 2.1.
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |colour: &str| {
            let [r, g, b] = linear(colour);
            0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
        };
        let (a, b) = (luminance(a), luminance(b));
        a.max(b) / a.min(b)
    }

    /// What somebody without one kind of cones sees: Machado, Oliveira, Fernandes 2009, severity 1.
    const SIGHTS: [[[f64; 3]; 3]; 3] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ];

    /// Distance of two colours in CIELAB (1976), as seen.
    fn distance(a: &str, b: &str, sight: &[[f64; 3]; 3]) -> f64 {
        let lab = |colour: &str| {
            let light = linear(colour);
            let seen =
                sight.map(|row| row.iter().zip(light).map(|(m, l)| m * l).sum::<f64>().clamp(0.0, 1.0));
            let xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
                .map(|row| row.iter().zip(seen).map(|(m, l)| m * l).sum::<f64>());
            let f = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
            let [x, y, z] = [f(xyz[0] / 0.9505), f(xyz[1]), f(xyz[2] / 1.089)];
            [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
        };
        lab(a).iter().zip(lab(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn everything_reads_on_its_ground() {
        for colours in [LIGHT, DARK] {
            for text in [colours.title, colours.text] {
                assert!(contrast(text, colours.ground) >= 4.5, "{text} on {}", colours.ground);
            }
            for line in colours.forecasts.iter().chain([&colours.history, &colours.outcome]) {
                assert!(contrast(line, colours.ground) >= 3.0, "{line} on {}", colours.ground);
            }
        }
    }

    /// A just noticeable difference is 2.3; lines are thin, so eight times that. The first three forecasts by colour alone,
    /// further ones with their dashes.
    #[test]
    fn what_was_what_is_said_and_what_came_differ_for_people_who_see_few_colours() {
        for colours in [LIGHT, DARK] {
            let said = &colours.forecasts[..3];
            for sight in &SIGHTS {
                for (index, &one) in said.iter().enumerate() {
                    let others = said[index + 1..].iter().chain([&colours.outcome, &colours.history]);
                    for other in others {
                        assert!(
                            distance(one, other, sight) > 18.4,
                            "{one} {other} {}",
                            distance(one, other, sight)
                        );
                    }
                }
                let (came, was) = (colours.outcome, colours.history);
                assert!(distance(came, was, sight) > 18.4, "{}", distance(came, was, sight));
            }
        }
        assert!(DASHES.iter().enumerate().all(|(i, dash)| DASHES[..i].iter().all(|other| other != dash)));
    }

    #[test]
    fn a_picture_follows_the_screen_unless_it_is_told_its_ground() {
        assert!(style(Theme::Auto, 1).contains("@media(prefers-color-scheme:dark){.kronos .ground"));
        assert!(!style(Theme::Light, 1).contains("@media") && style(Theme::Light, 1).contains(LIGHT.ground));
        assert!(!style(Theme::Dark, 1).contains("@media") && style(Theme::Dark, 1).contains(DARK.ground));
        assert!(style(Theme::Auto, 1).contains(".band.f0,") && !style(Theme::Auto, 1).contains(".f1"));
    }
}
