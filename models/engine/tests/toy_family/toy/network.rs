//! The network of a toy.

use kronos_models::answer::{Forecast, Paths};
use kronos_models::ask::{Ask, Drawing, Terms};
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::Interrupt;
use kronos_models::model::{Model, Passing, Work};

/// Lines through the last value of each channel; path n lies n above the first.
#[derive(Debug)]
pub struct Line {
    pub slope: f64,
}

impl Model for Line {
    fn memory_bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }

    fn work(&self) -> Work<'_> {
        Work::Passes(self)
    }
}

impl Passing for Line {
    fn working_bytes(&self, _: &[Ask]) -> u64 {
        0
    }

    fn forecast(
        &self,
        asks: &[Ask],
        terms: &Terms,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<Forecast>>> {
        interrupt.check()?;
        let drawing = terms.drawing("toy")?;
        Ok(asks.iter().map(|ask| self.paths(ask, drawing).map(Forecast::Paths)).collect())
    }
}

impl Line {
    fn paths(&self, ask: &Ask, drawing: &Drawing) -> Result<Paths> {
        let last = |values: &Vec<f64>| values.last().copied();
        let last: Option<Vec<f64>> = ask.targets.iter().map(|target| last(&target.values)).collect();
        let last = last.ok_or(ModelError::ContextTooShort { needed: 1, got: 0 })?;
        let mut values = Vec::new();
        for path in 0..drawing.samples {
            for step in 1..=ask.horizon {
                values.extend(last.iter().map(|last| last + self.slope * step as f64 + f64::from(path)));
            }
        }
        let (channels, horizon) = (last.len(), ask.horizon);
        Ok(Paths { channels, horizon, values, context_used: ask.context_len() })
    }
}
