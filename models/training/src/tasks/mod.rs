//! What a job trains, by family: one table, and a room for each.
//!
//! A room takes a job and its rows and gives back the files of a model and its scores. The regime, checkpoints, artifacts and
//! the program are the same for all of them and name none.

mod bars;
mod chronos2;
mod kronos;
mod nbeats;

use crate::adapter::AdapterTask;
use crate::error::{Result, TrainError};
use crate::evaluate::Line;
use crate::leakage::refuse_future_channels;
use crate::medians::Open;
use crate::{Checkpoints, Event, Options, Panel, Part, Report, Sampler, Split, Trainable, Window, data, run};
use candle_core::Device;
use kronos_job::{AdapterOptions, Family, Job, JobError, SourceOptions};
use kronos_models::interrupt::Interrupt;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// How the models of a family are trained.
pub struct Task {
    /// What a job must know of the family, its name among it.
    pub family: &'static Family,
    /// Trains a model, or looks at one that is finished.
    pub train: fn(&Job, Vec<SourceData>, &mut Context<'_>) -> Result<Trained>,
    /// Opens a model of which the series can be listed that it forecasts best.
    pub medians: Option<Open>,
}

/// Every family that can be trained.
pub const TASKS: &[Task] = &[
    Task { family: &kronos_job::kronos::FAMILY, train: kronos::train, medians: None },
    Task { family: &kronos_job::chronos2::FAMILY, train: chronos2::train, medians: None },
    Task { family: &kronos_job::nbeats::FAMILY, train: nbeats::train, medians: Some(nbeats::medians) },
];

/// The task of a family.
///
/// # Errors
/// [`TrainError::Job`] for a family that cannot be trained.
pub fn task(family: &str) -> Result<&'static Task> {
    let name = kronos_job::family(family)?.name;
    let found = TASKS.iter().find(|task| task.family.name == name);
    found.ok_or_else(|| JobError::UnknownFamily { family: family.into() }.into())
}

/// One source as it was read.
#[derive(Debug, Clone)]
pub struct SourceData {
    /// What was asked for.
    pub options: SourceOptions,
    /// The rows; columns are the targets.
    pub panel: Panel,
}

impl SourceData {
    /// Splits the rows as the job and the source say; `horizon` rows are left out between two parts.
    ///
    /// # Errors
    /// [`TrainError::Job`] for a split below the least, and for a source of which training or choosing would see a row after the
    /// job's last day.
    fn split(&self, job: &Job, horizon: usize) -> Result<Split> {
        let Self { options, panel } = self;
        let last = panel.span().map_or(0, |(_, last)| last);
        let rule = options.split.or(&job.split).rule(data::width(panel), last, horizon)?;
        let split = Split::new(panel, &rule)?;
        let Some(end) = job.train_cutoff()? else { return Ok(split) };
        for (number, series) in panel.series.iter().enumerate() {
            let cuts = split.cuts(number, series.rows(), Part::Validation, horizon);
            if !cuts.is_empty() && series.times[cuts.end - 1 + horizon - 1] >= end {
                let day = data::day(end - 1);
                let text = format!("series \"{}\" would be used after train_cutoff, {day}", series.name);
                return Err(JobError::Invalid(text).into());
            }
        }
        Ok(split)
    }

    /// Its name in scores.
    fn name(&self, number: usize) -> String {
        self.options.name.clone().unwrap_or_else(|| format!("source {}", number + 1))
    }
}

/// Hears how far a run is.
pub trait Watcher {
    /// Hears that a part of the model is trained from now on, in at most so many steps.
    fn part(&mut self, name: &str, steps: u64);

    /// Takes an event of the loop.
    fn event(&mut self, event: &Event);

    /// Takes a line for people.
    fn say(&mut self, line: &str);
}

/// What a task gets beside the job and the data.
pub struct Context<'a> {
    /// Folder where the run keeps its state.
    pub home: PathBuf,
    /// Steps from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// Asked between steps.
    pub interrupt: &'a dyn Interrupt,
    /// Hears of parts and of the events of the loop.
    pub watcher: &'a mut dyn Watcher,
    /// The device.
    pub device: Device,
    /// A version of the model whose weights are taken as they are: nothing is trained, only looked at.
    pub finished: Option<&'a Path>,
    /// The part after which the run ends.
    pub until: Option<&'a str>,
    /// What is trained of the last part in place of its weights.
    pub adapter: Option<Adapting<'a>>,
    /// Files of what was trained so.
    pub adapter_files: Vec<(String, Vec<u8>)>,
    /// Checkpoints of the parts so far, which the artifact makes superfluous.
    pub checkpoints: Vec<Checkpoints>,
}

/// An adapter that a job asks for.
#[derive(Debug, Clone)]
pub struct Adapting<'a> {
    /// What was asked for.
    pub options: &'a AdapterOptions,
    /// Ends of the names of matrices that are no linear maps.
    pub tables: &'a [&'a str],
    /// SHA-256 of the weights that it is trained on.
    pub base_sha256: String,
}

impl Context<'_> {
    /// Trains a part of a model with its checkpoint in `folder`, and leaves the best weights in the network; of a finished model
    /// nothing is done.
    ///
    /// # Errors
    /// As [`run::train`]; [`TrainError::EndOfPart`] where the run ends here.
    fn train(
        &mut self,
        part: &'static str,
        folder: &str,
        network: &dyn Trainable,
        sampler: &Sampler,
        options: &Options,
    ) -> Result<Report> {
        if self.finished.is_some() {
            let (steps, best_step, stopped_early) = (0, 0, false);
            return Ok(Report { steps, best_step, best_loss: f64::NAN, stopped_early, history: Vec::new() });
        }
        let folder = self.home.join(folder);
        fs::create_dir_all(&folder).map_err(|error| crate::checkpoint::failed(&folder, error))?;
        let checkpoints = Checkpoints::new(&folder, self.checkpoint_every);
        self.watcher.part(part, options.steps);
        let adapter = match self.adapter.clone().filter(|_| folder == self.home) {
            Some(Adapting { options: asked, tables, base_sha256 }) => {
                Some(AdapterTask::new(network, asked, tables, base_sha256, options.seed)?)
            }
            None => None,
        };
        let network = adapter.as_ref().map_or(network, |adapter| adapter as &dyn Trainable);
        let watcher = &mut *self.watcher;
        let mut observe = |event: &Event| watcher.event(event);
        let report = run::train(network, sampler, options, Some(&checkpoints), self.interrupt, &mut observe)?;
        if let Some(adapter) = adapter {
            // The best weights of the adapter, where the loop has left its last ones.
            adapter.merge()?;
            self.adapter_files = adapter.files()?;
        }
        self.checkpoints.push(checkpoints);
        match self.until == Some(part) {
            true => Err(TrainError::EndOfPart { part }),
            false => Ok(report),
        }
    }
}

/// What a task gives back.
pub struct Trained {
    /// Files of the model by their paths within the artifact.
    pub files: Vec<(String, Vec<u8>)>,
    /// Path of the file whose digest names the version.
    pub weights: String,
    /// How the training of the part ended whose weights name the version.
    pub report: Report,
    /// Numbers of windows by their part.
    pub windows: Value,
    /// Scores of the windows that weights are chosen by.
    pub validation: Value,
    /// Scores of the windows that neither fit nor choose, baselines beside them.
    pub test: Vec<Line>,
    /// What else is worth keeping beside the scores.
    pub notes: Map<String, Value>,
    /// Latest time of any row that a weight was fitted to, in microseconds since 1970.
    pub train_cutoff: Option<i64>,
    /// Options that the model is registered with.
    pub registration: Value,
}

/// A file in a folder of the artifact.
fn at(folder: &str, name: &str, bytes: Vec<u8>) -> (String, Vec<u8>) {
    (if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }, bytes)
}

/// The bytes of a file.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| TrainError::File { path: path.to_path_buf(), source })
}

/// About `count` windows, evenly spread.
fn pick(windows: &[Window], count: usize) -> Vec<Window> {
    let count = count.clamp(1, windows.len());
    (0..count).map(|i| windows[(2 * i + 1) * windows.len() / (2 * count)]).collect()
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

/// Levels of the scores of models that forecast distributions, evenly spaced so that a CRPS can be read off them.
const LEVELS: [f64; 19] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PanelSeries;
    use crate::split::DAY;
    use chrono::{Days, NaiveDate};
    use serde_json::json;

    #[test]
    fn what_is_queued_can_be_trained_and_listed_where_it_says_so() {
        let names: Vec<&str> = TASKS.iter().map(|task| task.family.name).collect();
        let queued: Vec<&str> = kronos_job::FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names, queued);
        assert!(TASKS.iter().all(|task| task.medians.is_some() == task.family.ranks));
    }

    #[test]
    fn windows_are_picked_from_the_middle_of_equal_parts() {
        let windows: Vec<Window> = (0..10).map(|cut| Window { series: 0, cut }).collect();
        let picked = |count| pick(&windows, count).iter().map(|window| window.cut).collect::<Vec<_>>();
        assert_eq!([picked(1), picked(2), picked(5)], [vec![5], vec![2, 7], vec![1, 3, 5, 7, 9]]);
        assert_eq!((picked(0), picked(99)), (vec![5], (0..10).collect()));
    }

    /// A thousand days from 1970 on. A year and a fifth at least are held out, the later half for the test, with a purge of 5: the
    /// hold-out begins at row 635, the test at 818, and of the rows that weights are chosen by the last is 812.
    #[test]
    fn a_source_that_is_used_after_the_cutoff_is_refused() {
        let series = PanelSeries {
            name: "A".into(),
            times: (0..1000).map(|day| day * DAY).collect(),
            values: vec![vec![1.0; 1000]],
        };
        let panel = Panel { columns: vec!["close".into()], series: vec![series] };
        let options = serde_json::from_value(json!({"targets": ["close"]})).unwrap();
        let source = SourceData { options, panel };
        let mut job = Job::from_json(json!({"name": "m", "family": "any"})).unwrap();
        let mut split = |day| {
            job.train_cutoff = Some((NaiveDate::default() + Days::new(day)).to_string());
            source.split(&job, 5)
        };
        let allowed = split(812).unwrap();
        assert_eq!((allowed.holdout_start(0), allowed.test_start(0)), (635, 818));
        let refused = split(811).unwrap_err().to_string();
        assert_eq!(refused, "job: series \"A\" would be used after train_cutoff, 1972-03-22");
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
