//! What a chart is asked to look like.

use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::options::Given;
use kronos_plot::{self as plot, MOST_FORECASTS, Picture, Theme};
use serde_json::Value;

/// Keys of `options`.
const KEYS: &[&str] =
    &["calendar", "height", "models", "series", "smooth", "style", "theme", "title", "value_col", "width"];

/// Most series of one picture.
const MOST_SERIES: usize = 24;

/// The options of a chart, checked.
pub(super) struct Request {
    pub format: Format,
    pub style: Option<Style>,
    /// Several series instead of one.
    pub series: Vec<String>,
    /// Several models instead of one.
    pub models: Vec<String>,
    pub is_smooth: bool,
    pub title: Option<String>,
    pub value_col: Option<String>,
    pub calendar: Option<String>,
}

/// How bars are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Candles,
    Line,
}

impl Request {
    pub fn parse(format: Option<&str>, options: Option<JsonB>) -> Result<Self> {
        let given = Given::options(options, KEYS)?;
        let style = match given.text("style")? {
            None => None,
            Some("candles") => Some(Style::Candles),
            Some("line") => Some(Style::Line),
            Some(other) => return Err(unknown("style", "\"candles\" or \"line\"", other)),
        };
        let names = |key: &str, most: usize| -> Result<Vec<String>> {
            let mut names = given.names(key)?;
            // Drawn once, wherever it is named again.
            let mut seen = std::collections::HashSet::new();
            names.retain(|name| seen.insert(name.clone()));
            if names.len() > most {
                let name = format!("option \"{key}\"");
                return Err(invalid(&name, format!("at most {most} names"), names.len().to_string(), None));
            }
            Ok(names)
        };
        let (series, models) = (names("series", MOST_SERIES)?, names("models", MOST_FORECASTS)?);
        Ok(Self {
            format: Format::parse(format, &given, series.len())?,
            style,
            series,
            models,
            is_smooth: given.boolean("smooth")?.unwrap_or(true),
            title: given.text("title")?.map(str::to_owned),
            value_col: given.text("value_col")?.map(str::to_owned),
            calendar: given.text("calendar")?.map(str::to_owned),
        })
    }
}

/// What a chart is drawn as, with its size.
pub(super) enum Format {
    Svg { theme: Theme, width: f64, height: f64 },
    Text { width: usize, height: usize },
}

impl Format {
    fn parse(format: Option<&str>, given: &Given, panels: usize) -> Result<Self> {
        let theme = match given.text("theme")? {
            None | Some("auto") => Theme::Auto,
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            Some(other) => return Err(unknown("theme", "\"auto\", \"light\" or \"dark\"", other)),
        };
        match format.ok_or(Error::NullArgument { name: "format" })? {
            "svg" => {
                let width = given.integer("width", 240, 10_000)?.unwrap_or(960) as f64;
                let height = given.integer("height", 160, 10_000)?.map(|height| height as f64);
                let height = height.unwrap_or_else(|| plot::usual_height(panels, width));
                Ok(Self::Svg { theme, width, height })
            }
            "text" => Ok(Self::Text {
                width: given.integer("width", 40, 1000)?.unwrap_or(100),
                height: given.integer("height", 10, 500)?.unwrap_or(24),
            }),
            other => Err(invalid("format", "\"svg\" or \"text\"".to_owned(), format!("\"{other}\""), None)),
        }
    }

    pub fn draw(&self, picture: &Picture) -> String {
        match *self {
            Self::Svg { theme, width, height } => plot::svg(picture, theme, width, height),
            Self::Text { width, height } => plot::text(picture, width, height),
        }
    }
}

fn unknown(key: &str, expected: &str, got: &str) -> Error {
    crate::options::invalid(&format!("option \"{key}\""), expected, &Value::from(got))
}

pub(super) fn invalid(name: &str, expected: String, got: String, hint: Option<&str>) -> Error {
    Error::InvalidArgument { name: name.to_owned(), expected, got, hint: hint.map(str::to_owned) }
}
