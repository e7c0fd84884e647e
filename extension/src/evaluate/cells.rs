//! Which rows of which models are scored side by side.

use super::benchmark::Benchmark;
use super::forecast::Forecast;
use super::group::Group;
use super::options::{EvaluateOptions, Windows};
use super::report::Score;
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Values of the grouping columns.
type Key = Vec<Option<String>>;

/// The column that tells the models apart.
const MODEL: &str = "model_version";

/// Rows without an outcome, which are in no cell.
const UNSCORED: usize = usize::MAX;

/// The groups, each apart by which models share its cells: who is compared is known when all rows have been read.
pub struct Cells<'a> {
    by: &'a [String],
    options: &'a EvaluateOptions,
    benchmark: &'a Benchmark,
    /// Place of the model among the grouping columns, where models are compared.
    model: Option<usize>,
    /// Sets of models, each once.
    sets: Vec<BTreeSet<String>>,
    places: HashMap<BTreeSet<String>, usize>,
    groups: BTreeMap<Key, BTreeMap<usize, Group>>,
}

impl<'a> Cells<'a> {
    /// No rows yet.
    pub fn new(by: &'a [String], options: &'a EvaluateOptions, benchmark: &'a Benchmark) -> Self {
        let model = by.iter().position(|name| name == MODEL).filter(|_| options.windows == Windows::Common);
        let (sets, places, groups) = Default::default();
        Self { by, options, benchmark, model, sets, places, groups }
    }

    /// Adds all that was said of one cell to the groups.
    pub fn add(&mut self, cell: &mut Vec<Forecast>) {
        let losses: Vec<_> = cell.iter().map(|forecast| forecast.losses(self.options)).collect();
        let mut shared: HashMap<Key, usize> = HashMap::new();
        for place in 0..cell.len() {
            let rest = self.rest(&cell[place].key);
            let set = match (&losses[place], shared.get(&rest)) {
                (None, _) => UNSCORED,
                (Some(_), Some(&set)) => set,
                (Some(_), None) => {
                    let models = cell.iter().zip(&losses).filter(|(row, losses)| {
                        losses.is_some() && self.model.is_some() && self.rest(&row.key) == rest
                    });
                    let set = self.set(models.map(|(row, _)| row.model_version.clone()).collect());
                    shared.insert(rest, set);
                    set
                }
            };
            let forecast = &cell[place];
            let benchmark = self.benchmark.losses(forecast, cell, self.options);
            let groups = self.groups.entry(forecast.key.clone()).or_default();
            groups.entry(set).or_default().add(forecast, losses[place].as_ref(), benchmark.as_ref());
        }
        cell.clear();
    }

    /// The groups, each with the cells that all models have which are compared with it.
    pub fn report(self) -> Vec<Score> {
        // Who is compared: all that share the other columns.
        let mut compared: HashMap<Key, BTreeSet<String>> = HashMap::new();
        for (key, groups) in &self.groups {
            let models = compared.entry(self.rest(key)).or_default();
            for set in groups.keys().filter(|set| **set != UNSCORED) {
                models.extend(self.sets[*set].iter().cloned());
            }
        }
        let (mut dropped, mut most) = (0, 0);
        let chosen = |key: &Key| {
            let models = &compared[&self.rest(key)];
            (key.clone(), self.places.get(models).copied(), models.len())
        };
        let chosen: Vec<(Key, Option<usize>, usize)> = self.groups.keys().map(chosen).collect();
        let mut scores = Vec::with_capacity(chosen.len());
        let Self { by, options, benchmark, mut groups, .. } = self;
        for (key, set, models) in chosen {
            let mut sets = groups.remove(&key).unwrap_or_default();
            let unscored = sets.remove(&UNSCORED).unwrap_or_default();
            let mut group = set.and_then(|set| sets.remove(&set)).unwrap_or_default();
            group.unscored += unscored.unscored;
            group.contaminated += unscored.contaminated;
            group.dropped = sets.values().map(|group| group.errors.count()).sum();
            if group.dropped > 0 {
                (dropped, most) = (dropped + group.dropped, most.max(models));
            }
            scores.push(group.report(by, key, options, benchmark));
        }
        if dropped > 0 {
            ereport!(
                PgLogLevel::NOTICE,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("{dropped} rows are of cells that not all of {most} models have, and are left out"),
                "A cell is a series, a target, a cutoff and a time; extra has the number of rows dropped. To score each model by all that it has: \
                 options => '{\"windows\": \"own\"}'."
            );
        }
        scores
    }

    /// The key without the model.
    fn rest(&self, key: &Key) -> Key {
        let mut rest = key.clone();
        if let Some(model) = self.model {
            rest[model] = None;
        }
        rest
    }

    fn set(&mut self, models: BTreeSet<String>) -> usize {
        if let Some(&place) = self.places.get(&models) {
            return place;
        }
        self.sets.push(models.clone());
        self.places.insert(models, self.sets.len() - 1);
        self.sets.len() - 1
    }
}
