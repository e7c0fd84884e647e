//! Which columns a call reads, and what they are to it.

use super::options::Options;
use crate::error::{Error, Result};
use crate::relation::Named;
use kronos_models::bars::CHANNEL_NAMES;
use std::collections::HashSet;

/// What bars are forecast of, where one column is asked for.
pub const CLOSE: &str = "close";

/// Place of the close among the channels of a bar.
pub const CLOSE_CHANNEL: usize = 3;

/// Which columns a call reads, in the order in which rows hold them.
#[derive(Debug, Clone, Default)]
pub struct Variates {
    /// Columns to forecast.
    pub targets: Vec<String>,
    /// Covariates whose future is not known.
    pub past: Vec<String>,
    /// Covariates whose future the relation holds.
    pub future: Vec<String>,
    /// Covariates that do not change with time.
    pub statics: Vec<String>,
}

impl Variates {
    /// The channels of bars.
    pub fn bars() -> Self {
        Self { targets: CHANNEL_NAMES.map(str::to_owned).to_vec(), ..Self::default() }
    }

    /// Columns to forecast.
    ///
    /// # Errors
    /// 22023 for none.
    pub fn of(targets: Vec<String>) -> Result<Self> {
        if targets.is_empty() {
            return Err(Error::InvalidArgument {
                name: "targets".into(),
                expected: "the names of one or more columns".into(),
                got: "'{}'".into(),
                hint: Some("Name the columns to forecast, such as targets => '{close}'.".into()),
            });
        }
        Ok(Self { targets, ..Self::default() })
    }

    /// All columns, in their order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        [&self.targets, &self.past, &self.future, &self.statics].into_iter().flatten()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.names().count()
    }

    /// Place of the first covariate whose future is known.
    pub fn first_future(&self) -> usize {
        self.targets.len() + self.past.len()
    }

    /// Refuses a column that is named twice, and a category that is no covariate.
    ///
    /// # Errors
    /// 22023.
    pub fn check(&self, categorical: &[String]) -> Result<()> {
        let mut seen = HashSet::new();
        if let Some(name) = self.names().find(|name| !seen.insert(name.as_str())) {
            return Err(Error::InvalidArgument {
                name: "targets and covariates".into(),
                expected: "different columns".into(),
                got: format!("\"{name}\" twice"),
                hint: None,
            });
        }
        let is_covariate =
            |name: &String| self.names().skip(self.targets.len()).any(|covariate| covariate == name);
        match categorical.iter().find(|name| !is_covariate(name)) {
            None => Ok(()),
            Some(name) => Err(Error::InvalidArgument {
                name: "option \"categorical\"".into(),
                expected: "names of covariates".into(),
                got: format!("\"{name}\""),
                hint: Some(
                    "Name it in past_covariates, future_covariates or the option static as well.".into(),
                ),
            }),
        }
    }

    /// What of a relation they are; the channels of bars may lie under other names, and have two that need not be there.
    pub fn named<'a>(&'a self, options: &'a Options, of_bars: bool) -> Vec<Named<'a>> {
        let place = |(index, name): (usize, &'a String)| {
            let mapped = options.columns.get(name);
            let target = index < self.targets.len();
            let channel = CHANNEL_NAMES.into_iter().find(|channel| of_bars && target && channel == name);
            Named {
                name: mapped.map_or(Some(name), Option::as_ref).map(String::as_str),
                role: channel.unwrap_or(if target { "target" } else { "covariate" }),
                numeric: target,
                categorical: !target && options.categorical.contains(name),
                optional: mapped.is_none()
                    && channel.is_some_and(|channel| ["volume", "amount"].contains(&channel)),
            }
        };
        self.names().enumerate().map(place).collect()
    }
}
