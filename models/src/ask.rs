//! What a model is asked: one shape for every family, which takes of it what it understands.
//!
//! An [`Ask`] is what is forecast together at any rate: the channels of one series, with everything that is known of them.
//! What all asks of a request have in common are its [`Terms`]. Both are plain data and travel to another process as they
//! are. A family encodes an ask for its network in its own room, so that nobody else decides what a category is to it.

use crate::error::{ModelError, Result};
use crate::random::Stream;
use chrono::{Datelike, NaiveDateTime, Timelike};
use serde::{Deserialize, Serialize};

/// Size above which a number is no use to a model: the sum of the squares of such numbers may be infinite.
pub const LARGEST: f64 = 1e150;

/// One series to forecast. All histories have the same length and end at the same point in time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ask {
    /// The channels to forecast; at least one.
    pub targets: Vec<Channel>,
    /// Covariates whose future is not known.
    pub past: Vec<Covariate>,
    /// Covariates whose future is known, in whole or in part.
    pub known: Vec<KnownCovariate>,
    /// Covariates that do not change with time: what they were at each step of the history, of which the last counts.
    pub statics: Vec<Covariate>,
    /// The wall clock at each step of history and horizon; empty where nobody knows it.
    pub stamps: Vec<Stamp>,
    /// Steps to forecast.
    pub horizon: usize,
    /// Where the numbers come from that a model draws.
    pub stream: Stream,
}

/// A channel to forecast, oldest value first; NaN is a missing value.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Channel {
    /// What it is called where it comes from.
    pub name: String,
    /// A value per step of the history.
    pub values: Vec<f64>,
}

/// A covariate of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Covariate {
    /// What it is called where it comes from.
    pub name: String,
    /// A value per step of the history.
    pub values: Values,
}

/// A covariate with a known future.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownCovariate {
    /// What it is called where it comes from.
    pub name: String,
    /// A value per step of the history.
    pub past: Values,
    /// A value per step of the horizon, of the same kind.
    pub future: Values,
}

/// What a covariate is at each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Values {
    /// Numbers; NaN is a missing one.
    Numbers(Vec<f64>),
    /// Names that have no order.
    Categories(Categories),
}

/// Categories by the step; each name is there once, however often it occurs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Categories {
    names: Vec<String>,
    /// Places among the names; `None` is a missing category.
    places: Vec<Option<u32>>,
}

impl<'a> FromIterator<Option<&'a str>> for Categories {
    fn from_iter<I: IntoIterator<Item = Option<&'a str>>>(categories: I) -> Self {
        let mut known = std::collections::HashMap::<&str, u32>::new();
        let mut names = Vec::new();
        let mut place = |name: &'a str| {
            *known.entry(name).or_insert_with(|| {
                names.push(name.to_owned());
                names.len() as u32 - 1
            })
        };
        let places = categories.into_iter().map(|category| category.map(&mut place)).collect();
        Self { names, places }
    }
}

impl Categories {
    /// The category of each step; one that has no name is missing.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        let name = |place: u32| self.names.get(place as usize).map(String::as_str);
        self.places.iter().map(move |place| place.and_then(name))
    }
}

/// The calendar fields that a model reads, in the local wall clock of the market.
///
/// # Units
/// minute 0–59, hour 0–23, weekday Monday = 0 … Sunday = 6, day 1–31, month 1–12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// 0–59.
    pub minute: u8,
    /// 0–23.
    pub hour: u8,
    /// Monday = 0 … Sunday = 6.
    pub weekday: u8,
    /// 1–31.
    pub day: u8,
    /// 1–12.
    pub month: u8,
}

/// Reads the fields off a wall clock; seconds and the year are not among them.
impl From<NaiveDateTime> for Stamp {
    fn from(local: NaiveDateTime) -> Self {
        // Each field is below 60, so the narrowing cannot lose anything.
        Self {
            minute: local.minute() as u8,
            hour: local.hour() as u8,
            weekday: local.weekday().num_days_from_monday() as u8,
            day: local.day() as u8,
            month: local.month() as u8,
        }
    }
}

impl Ask {
    /// Points of history.
    pub fn context_len(&self) -> usize {
        self.targets.first().map_or(0, |target| target.values.len())
    }

    /// Covariates of any kind.
    pub fn covariates(&self) -> usize {
        self.past.len() + self.known.len() + self.statics.len()
    }

    /// Channels and covariates.
    pub fn variates(&self) -> usize {
        self.targets.len() + self.covariates()
    }

    /// Bytes of the names of its categories, which no count of values knows of.
    pub fn name_bytes(&self) -> usize {
        let known = self.known.iter().flat_map(|covariate| [&covariate.past, &covariate.future]);
        let others = self.past.iter().chain(&self.statics).map(|covariate| &covariate.values);
        let bytes = |values: &Values| match values {
            Values::Categories(categories) => categories.names.iter().map(String::len).sum(),
            Values::Numbers(_) => 0,
        };
        known.chain(others).map(bytes).sum()
    }

    /// Numbers of the histories that are given as numbers.
    pub fn history(&self) -> impl Iterator<Item = f64> {
        let covariates = self.past.iter().map(|covariate| &covariate.values);
        let numbers = covariates.filter_map(|values| match values {
            Values::Numbers(numbers) => Some(numbers),
            Values::Categories(_) => None,
        });
        self.targets.iter().map(|target| &target.values).chain(numbers).flatten().copied()
    }
}

/// What all asks of a request have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Longest history used, in steps; at most the model's.
    pub context: usize,
    /// Variates that inform each other across asks; `None`: every ask by itself.
    pub cross_learning: Option<usize>,
    /// The form of the answer.
    pub wanted: Wanted,
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Wanted {
    /// Sample paths.
    Paths(Drawing),
    /// Quantiles at these levels, within the model's own.
    Quantiles(Vec<f64>),
}

/// How sample paths are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// Sample paths per ask.
    pub samples: u32,
    /// Softmax temperature.
    pub temperature: f32,
    /// Number of logits kept, 0 = all.
    pub top_k: u32,
    /// Probability mass kept, 1 = all.
    pub top_p: f32,
    /// Whether the window slides past the model's, see [`crate::bars::Window`].
    pub slide: bool,
}

impl Drawing {
    /// Bytes that the paths of an ask take.
    pub fn bytes(&self, ask: &Ask) -> u64 {
        let step = (ask.targets.len() * size_of::<f64>()) as u64;
        (ask.horizon as u64).saturating_mul(u64::from(self.samples)).saturating_mul(step)
    }
}

impl Terms {
    /// How paths are drawn.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where something else is wanted.
    pub fn drawing(&self, family: &'static str) -> Result<&Drawing> {
        match &self.wanted {
            Wanted::Paths(drawing) => Ok(drawing),
            Wanted::Quantiles(_) => {
                Err(ModelError::Unsupported { family, capability: "quantiles of columns".into() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_what_the_wall_clock_shows() {
        let stamp = |text| Stamp::from(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap());
        // A Thursday in July and a Friday in November; Monday is 0.
        assert_eq!(stamp("2024-07-04 09:30"), Stamp { minute: 30, hour: 9, weekday: 3, day: 4, month: 7 });
        assert_eq!(stamp("2024-11-29 00:00"), Stamp { minute: 0, hour: 0, weekday: 4, day: 29, month: 11 });
    }

    #[test]
    fn categories_are_what_they_were_made_of() {
        let steps = [Some("sun"), None, Some("rain"), Some("sun"), Some("")];
        let categories: Categories = steps.into_iter().collect();
        assert_eq!(categories.iter().collect::<Vec<_>>(), steps);
        assert_eq!(categories.names, ["sun", "rain", ""]);
        let weather = || Covariate { name: "weather".into(), values: Values::Categories(categories.clone()) };
        let ask = Ask { past: vec![weather()], statics: vec![weather()], ..Ask::default() };
        assert_eq!(ask.name_bytes(), 2 * "sunrain".len());
        // As a damaged message may have it.
        let damaged = Categories { names: vec!["sun".into()], places: vec![Some(0), Some(7)] };
        assert_eq!(damaged.iter().collect::<Vec<_>>(), [Some("sun"), None]);
    }
}
