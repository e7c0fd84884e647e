//! Panels of bars and the windows that training cuts from them.

use super::{BarWindow, WindowRule};
use crate::error::{Result, TrainError, invalid};
use crate::{Panel, Part, Pick, Sampler, Source, Split, Window, Windows};
use kronos_models::bars::{Bar, CHANNELS, Stamp};
use kronos_models::random::Stream;
use sha2::{Digest, Sha256};

fn windows(rule: &WindowRule) -> Windows {
    Windows {
        context: rule.most_context,
        horizon: rule.bars - rule.least_context,
        stride: 1,
        complete: (0..CHANNELS).collect(),
        positive: (0..4).collect(),
    }
}

/// A panel of bars with what windows may be cut from it.
#[derive(Debug, Clone)]
pub struct BarSource {
    /// Name, for scores.
    pub name: String,
    /// Share of the draws, relative to the other sources.
    pub weight: f64,
    /// Columns open, high, low, close, volume, amount, all without gaps.
    pub panel: Panel,
    /// A stamp per row of each series.
    pub stamps: Vec<Vec<Stamp>>,
    /// What weights are fitted to.
    pub train: Vec<Window>,
    /// What weights are chosen by.
    pub validation: Vec<Window>,
}

impl BarSource {
    /// Finds the windows of a panel; of the validation part `validation` of them, evenly spread.
    ///
    /// # Errors
    /// [`TrainError::InvalidPanel`] for a panel of other columns or stamps, [`TrainError::NoWindows`].
    pub fn new(
        name: &str,
        weight: f64,
        panel: Panel,
        stamps: Vec<Vec<Stamp>>,
        split: &Split,
        rule: &WindowRule,
        validation: usize,
    ) -> Result<Self> {
        rule.validate()?;
        panel.validate()?;
        if panel.columns.len() != CHANNELS {
            return Err(invalid(
                "columns",
                "open, high, low, close, volume, amount",
                panel.columns.join(", "),
            ));
        }
        for (index, series) in panel.series.iter().enumerate() {
            if stamps.get(index).map(Vec::len) != Some(series.rows()) {
                let reason = "does not have a stamp per row".into();
                return Err(TrainError::InvalidPanel { series: series.name.clone(), reason });
            }
        }
        let windows = windows(rule);
        let train = windows.of(&panel, split, Part::Train)?;
        let all = windows.of(&panel, split, Part::Validation)?;
        let count = validation.clamp(1, all.len());
        let validation = (0..count).map(|i| all[(2 * i + 1) * all.len() / (2 * count)]).collect();
        Ok(Self { name: name.into(), weight, panel, stamps, train, validation })
    }

    /// `bars` bars around a cut, `context` of them before it.
    pub fn window(&self, window: Window, context: usize, bars: usize) -> BarWindow {
        let series = window.of(&self.panel);
        let rows = window.cut as usize - context..window.cut as usize - context + bars;
        let bar = |row: usize| -> Bar { std::array::from_fn(|channel| series.values[channel][row]) };
        BarWindow {
            bars: rows.clone().map(bar).collect(),
            stamps: self.stamps[window.series as usize][rows].to_vec(),
            context,
        }
    }
}

/// Sources and the rule that windows are cut by.
#[derive(Debug, Clone)]
pub struct BarSources {
    sources: Vec<BarSource>,
    rule: WindowRule,
    fingerprint: String,
}

impl BarSources {
    /// Joins sources whose windows were found by `rule`.
    pub fn new(sources: Vec<BarSource>, rule: WindowRule) -> Self {
        let mut hash = Sha256::new();
        for source in &sources {
            hash.update(source.panel.fingerprint());
            hash.update(source.weight.to_bits().to_le_bytes());
        }
        let fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { sources, rule, fingerprint }
    }

    /// The sources.
    pub fn sources(&self) -> &[BarSource] {
        &self.sources
    }

    /// The rule.
    pub fn rule(&self) -> &WindowRule {
        &self.rule
    }

    /// SHA-256 of all data and their shares.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A sampler of the training windows.
    pub fn sampler(&self, seed: i64) -> Result<Sampler> {
        let source =
            |source: &BarSource| Source { weight: source.weight, ..Source::uniform(source.train.len()) };
        Sampler::new(&self.sources.iter().map(source).collect::<Vec<_>>(), seed)
    }

    /// The window of a draw: where its cut is and whether it has volume are functions of the draw's number.
    pub(super) fn draw(&self, pick: &Pick) -> BarWindow {
        let WindowRule { bars, least_context, most_context, without_volume, .. } = self.rule;
        let uniform = |what| Stream::from_key(CUTS).uniform(pick.draw as u32, (pick.draw >> 32) as u32, what);
        let choices = most_context - least_context + 1;
        let context = least_context + ((uniform(0) * choices as f64) as usize).min(choices - 1);
        let source = &self.sources[pick.source];
        let mut window = source.window(source.train[pick.window], context, bars);
        if uniform(1) < without_volume {
            window.bars.iter_mut().for_each(|bar| bar[4..].fill(0.0));
        }
        window
    }

    /// Windows of the validation part with the longest context, source by source.
    pub(super) fn validation(&self) -> impl Iterator<Item = (&BarSource, BarWindow)> {
        let WindowRule { bars, most_context, .. } = self.rule;
        self.sources.iter().flat_map(move |source| {
            source.validation.iter().map(move |&window| (source, source.window(window, most_context, bars)))
        })
    }
}

/// Key of the stream that cuts are drawn from; a run's own seed decides which windows are drawn.
const CUTS: u64 = 0x6B72_6F6E_6F73;
