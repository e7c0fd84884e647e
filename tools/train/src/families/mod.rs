//! Families of models that can be trained, found in one table.

mod bars;
mod chronos2;
mod kronos;
mod nbeats;

use crate::error::{Error, Result};
use crate::job::{Job, SourceOptions};
use crate::progress::Timed;
use candle_core::Device;
use kronos_models::interrupt::Interrupt;
use kronos_training::evaluate;
use kronos_training::leakage::refuse_future_channels;
use kronos_training::score::Unit;
use kronos_training::{Checkpoints, Panel, Report, Window};
use serde_json::{Value, json};

/// One source as it was read.
pub struct SourceData {
    /// What was asked for.
    pub options: SourceOptions,
    /// The rows; columns are the targets.
    pub panel: Panel,
}

/// What a family gets beside the job and the data.
pub struct Context<'a> {
    /// Where the run keeps its state.
    pub checkpoints: &'a Checkpoints,
    /// Asked between steps.
    pub interrupt: &'a dyn Interrupt,
    /// Hears of parts and of the events of the loop.
    pub timed: &'a mut Timed<'a>,
    /// The device.
    pub device: Device,
}

/// What a family gives back.
pub struct Trained {
    /// Files of the model by their paths within the artifact.
    pub files: Vec<(String, Vec<u8>)>,
    /// Path of the file whose digest names the version.
    pub weights: String,
    /// Scores on validation and test windows, baselines beside them.
    pub metrics: Value,
    /// Latest time of any row that a weight was fitted to, in microseconds since 1970.
    pub train_cutoff: Option<i64>,
    /// Options that the model is registered with.
    pub registration: Value,
    /// Checkpoints of parts that are finished, which the artifact makes superfluous.
    pub parts: Vec<Checkpoints>,
}

/// A family.
pub struct Family {
    /// Name, as in SQL.
    pub name: &'static str,
    /// Trains a model of it.
    pub train: fn(&Job, Vec<SourceData>, &mut Context<'_>) -> Result<Trained>,
}

/// Every family that can be trained.
pub const FAMILIES: &[Family] = &[
    Family { name: "kronos", train: kronos::train },
    Family { name: "chronos2", train: chronos2::train },
    Family { name: "nbeats", train: nbeats::train },
];

/// The family of that name.
///
/// # Errors
/// [`Error::Job`] with the names there are.
pub fn family(name: &str) -> Result<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        Error::Job(format!("family \"{name}\" cannot be trained; there are {}", names.join(", ")))
    })
}

/// Name of a source in scores.
fn source_name(index: usize) -> String {
    format!("source {}", index + 1)
}

/// A file in a folder of the artifact.
fn at(folder: &str, name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }, bytes)
}

/// About `count` windows, evenly spread.
fn pick(windows: &[Window], count: usize) -> Vec<Window> {
    let count = count.clamp(1, windows.len());
    (0..count).map(|i| windows[(2 * i + 1) * windows.len() / (2 * count)]).collect()
}

/// Losses of a run over time.
fn history(report: &Report) -> Vec<Value> {
    let line = |(step, train, validation): &(u64, f64, f64)| json!({"step": step, "train_loss": train.is_finite().then_some(train), "validation_loss": validation});
    report.history.iter().map(line).collect()
}

/// Refuses a source in which one of several columns holds the future of another.
///
/// An open may be the close before, as in markets that never pause, so it is no target that others could give away.
fn refuse_future(panel: &Panel, targets: &[usize], channels: &[usize], horizon: usize) -> Result<()> {
    for &target in
        targets.iter().filter(|target| panel.columns.get(**target).is_none_or(|name| name != "open"))
    {
        refuse_future_channels(panel, target, channels, horizon)?;
    }
    Ok(())
}

/// Levels of the scores of models that forecast distributions.
const LEVELS: [f64; 11] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// Scores of the naive models on the windows of each panel, by its name; sizes are the column, and the lengths of context
/// and forecast.
fn beside<'a>(
    sources: impl Iterator<Item = (&'a String, &'a Panel, &'a [Window])>,
    sizes: (usize, usize, usize),
    season: usize,
) -> Result<Value> {
    sources
        .map(|(name, panel, windows)| {
            let scores = evaluate::baselines(panel, windows, sizes, season, &LEVELS, Unit::LogReturn)?;
            let scores: Value =
                scores.into_iter().map(|(name, score)| (name.to_owned(), json!(score))).collect();
            Ok((name.clone(), scores))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kronos_training::PanelSeries;

    #[test]
    fn what_is_queued_can_be_trained() {
        assert_eq!(FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>(), kronos_job::FAMILIES);
    }

    #[test]
    fn windows_are_picked_from_the_middle_of_equal_parts() {
        let windows: Vec<Window> = (0..10).map(|cut| Window { series: 0, cut }).collect();
        let picked = |count| pick(&windows, count).iter().map(|window| window.cut).collect::<Vec<_>>();
        assert_eq!([picked(1), picked(2), picked(5)], [vec![5], vec![2, 7], vec![1, 3, 5, 7, 9]]);
        assert_eq!((picked(0), picked(99)), (vec![5], (0..10).collect()));
    }

    /// Opens are the closes before, as in markets that never pause, and one column is the close of tomorrow.
    #[test]
    fn a_column_that_is_tomorrows_close_is_refused_and_an_open_is_not() {
        let mut price = 100.0;
        // An irregular walk: no move tells of the next.
        let closes: Vec<f64> = (0..402_u64)
            .map(|day| {
                price *= 1.0 + 0.02 * ((day * day * 7919 % 101) as f64 / 100.0 - 0.5);
                price
            })
            .collect();
        let shifted = |by: usize| closes[by..by + 400].to_vec();
        let panel = |name: &str, values| Panel {
            columns: vec!["open".into(), "close".into(), name.into()],
            series: vec![PanelSeries {
                name: "A".into(),
                times: (0..400).collect(),
                values: vec![shifted(0), shifted(1), values],
            }],
        };
        refuse_future(&panel("before", shifted(0)), &[0, 1], &[0, 1, 2], 3).unwrap();
        let refused = refuse_future(&panel("signal", shifted(2)), &[0, 1], &[0, 1, 2], 3).unwrap_err();
        assert!(refused.to_string().starts_with("column \"signal\" holds the future"), "{refused}");
    }
}
