//! From a group's sums to the row that tells of it.

use super::benchmark::Benchmark;
use super::group::{Differences, Group, Mean, Move, Paired};
use super::options::{EvaluateOptions, Unit};
use kronos_models::metrics::{
    Test, chi_squared_bins, diebold_mariano, kolmogorov_smirnov, lag_one_autocorrelation, pesaran_timmermann,
    skill, spearman, wilson,
};
use serde_json::{Map, Value, json};

/// Series below which a cross-section has no ranks worth the name.
const CROSS_SECTION: usize = 3;

/// Times in the window whose worst coverage is told: a quarter of trading days.
const WORST: usize = 60;

/// One row of `kronos.evaluate()`.
#[derive(Debug, Default)]
pub struct Score {
    /// Series, where rows are grouped by it; so are the next three.
    pub series: Option<String>,
    /// Target.
    pub target: Option<String>,
    /// Step.
    pub step: Option<i32>,
    /// Model.
    pub model_version: Option<String>,
    /// Rows scored.
    pub n: u64,
    /// Mean absolute error.
    pub mae: Option<f64>,
    /// Root mean squared error.
    pub rmse: Option<f64>,
    /// Mean absolute scaled error.
    pub mase: Option<f64>,
    /// Weighted quantile loss.
    pub wql: Option<f64>,
    /// Continuous ranked probability score.
    pub crps: Option<f64>,
    /// Share of outcomes inside the interval.
    pub coverage: Option<f64>,
    /// Mean width of the interval.
    pub mean_width: Option<f64>,
    /// Interval score.
    pub winkler: Option<f64>,
    /// Share of moves whose sign was foretold.
    pub dir_acc: Option<f64>,
    /// Mean rank correlation of foretold and realised moves across series.
    pub rank_ic: Option<f64>,
    /// Share of the naive forecast's absolute error that is saved.
    pub skill_vs_naive: Option<f64>,
    /// Everything else.
    pub extra: Map<String, Value>,
}

impl Group {
    /// The row of the group whose columns `by` have the values `key`.
    pub fn report(
        self,
        by: &[String],
        key: Vec<Option<String>>,
        options: &EvaluateOptions,
        benchmark: &Benchmark,
    ) -> Score {
        let mut score = Score { n: self.errors.count(), ..Score::default() };
        for (name, value) in by.iter().zip(key) {
            match name.as_str() {
                "series" => score.series = value,
                "target" => score.target = value,
                "model_version" => score.model_version = value,
                "step" => score.step = value.and_then(|text| text.parse().ok()),
                _ => _ = score.extra.insert(name.clone(), value.map_or(Value::Null, Value::String)),
            }
        }
        let overlap = self.overlap();
        (score.mae, score.rmse, score.mase) = (self.errors.mae(), self.errors.rmse(), self.errors.mase());
        score.crps = self.all_crps.get();
        score.mean_width = self.width.get();
        score.winkler = self.winkler.get();
        score.skill_vs_naive = saved(&self.absolute);
        let extra = &mut score.extra;
        extra.insert("series".into(), self.series.len().into());
        extra.insert("cutoffs".into(), self.reach.len().into());
        extra.insert("overlap".into(), overlap.into());
        if options.unit == Unit::Return {
            extra.insert("unit".into(), "return".into());
        }
        benchmark.describe(extra);
        let counts =
            [("contaminated", self.contaminated), ("unscored", self.unscored), ("dropped", self.dropped)];
        for (name, count) in counts {
            if count > 0 {
                extra.insert(name.into(), count.into());
            }
        }
        for (name, paired) in [
            ("skill", &self.against),
            ("skill_wql", &self.pinball),
            ("skill_crps", &self.crps),
            ("skill_winkler", &self.interval),
        ] {
            put(extra, name, saved(paired).map(Value::from));
        }
        put(extra, "dm", against(&self.by_cutoff, overlap));
        put(extra, "dm_wql", against(&self.pinball_by_cutoff, overlap));
        score.wql = self.report_quantiles(extra);
        score.coverage = self.report_intervals(extra);
        score.dir_acc = self.report_signs(extra);
        score.rank_ic = self.report_ranks(extra);
        put(extra, "pit", self.report_places());
        if let Some(cost_bps) = options.cost_bps {
            put(extra, "long_short", long_short(&self, options.unit, cost_bps));
        }
        score
    }

    /// The weighted quantile loss. Under other than the same levels for all rows it has no meaning.
    fn report_quantiles(&self, extra: &mut Map<String, Value>) -> Option<f64> {
        let levels = self.levels.as_ref().filter(|_| !self.mixed_levels)?;
        extra.insert("wql_levels".into(), levels.len().into());
        let mut shares: Vec<f64> = std::iter::once(0.0)
            .chain(levels.iter().copied())
            .zip(levels.iter().copied().chain([1.0]))
            .map(|(a, b)| b - a)
            .collect();
        shares.retain(|share| *share > 0.0);
        let test = chi_squared_bins(&self.bins, &shares);
        put(
            extra,
            "pit_bins",
            test.map(|test| with(test, json!({ "counts": self.bins, "expected": shares }))),
        );
        let loss = self.quantile_loss.get()? * self.quantile_loss.count() as f64;
        (self.magnitude > 0.0).then(|| 2.0 * loss / self.magnitude)
    }

    fn report_intervals(&self, extra: &mut Map<String, Value>) -> Option<f64> {
        let n = self.width.count();
        put(extra, "level", self.level.map(Value::from));
        let (low, high) = wilson(self.inside, n)?;
        extra.insert("coverage_interval".into(), json!([low, high]));
        let shares: Vec<f64> = self.inside_by_time.values().filter_map(Mean::get).collect();
        let worst = shares
            .windows(WORST)
            .map(|window| window.iter().sum::<f64>() / WORST as f64)
            .fold(f64::NAN, f64::min);
        put(extra, "worst_coverage_60", worst.is_finite().then(|| worst.into()));
        Some(self.inside as f64 / n as f64)
    }

    fn report_signs(&self, extra: &mut Map<String, Value>) -> Option<f64> {
        let n = self.signs.len() as u64;
        let hits = self.signs.iter().filter(|(foretold, came)| foretold == came).count() as u64;
        let up = self.signs.iter().filter(|(_, came)| *came).count() as u64;
        let (low, high) = wilson(hits, n)?;
        let mut direction =
            json!({ "n": n, "low": low, "high": high, "majority": up.max(n - up) as f64 / n as f64 });
        if let (Some(test), Value::Object(map)) =
            (pesaran_timmermann(self.signs.iter().copied()), &mut direction)
        {
            map.insert("pesaran_timmermann".into(), with(test, json!({})));
        }
        extra.insert("direction".into(), direction);
        Some(hits as f64 / n as f64)
    }

    /// The mean over cutoffs and steps, and its t from means per cutoff, which are less dependent.
    fn report_ranks(&self, extra: &mut Map<String, Value>) -> Option<f64> {
        let mut by_cutoff: Differences = Differences::new();
        let mut all = Mean::default();
        for ((cutoff, _), moves) in &self.moves {
            if moves.len() < CROSS_SECTION {
                continue;
            }
            let (foretold, came): (Vec<f64>, Vec<f64>) = moves.iter().map(|m| (m.foretold, m.came)).unzip();
            if let Some(correlation) = spearman(&foretold, &came) {
                all.add(correlation);
                by_cutoff.entry(*cutoff).or_default().add(correlation);
            }
        }
        let means: Vec<f64> = by_cutoff.values().filter_map(Mean::get).collect();
        let mean = all.get()?;
        let test = diebold_mariano(&means, self.overlap());
        let sections = all.count();
        extra.insert(
            "rank_ic".into(),
            test.map_or(json!({ "sections": sections }), |test| with(test, json!({ "sections": sections }))),
        );
        Some(mean)
    }

    fn report_places(&self) -> Option<Value> {
        let test = kolmogorov_smirnov(&self.places)?;
        let autocorrelation = lag_one_autocorrelation(&self.places);
        Some(with(test, json!({ "n": self.places.len(), "autocorrelation": autocorrelation })))
    }
}

fn put(extra: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        extra.insert(name.to_owned(), value);
    }
}

/// A test beside what else is known of it.
fn with(test: Test, mut about: Value) -> Value {
    if let Value::Object(map) = &mut about {
        map.insert("statistic".into(), test.statistic.into());
        map.insert("p_value".into(), test.p_value.into());
    }
    about
}

fn saved(paired: &Paired) -> Option<f64> {
    skill(paired.loss.get()?, paired.other.get()?)
}

/// The test of Diebold and Mariano over cutoffs, each of which counts for as many forecasts as it has: as in the skill beside it,
/// a cutoff with one series is no match for one with a hundred.
///
/// The mean over all forecasts is a ratio of sums over cutoffs; what is tested is its linear form, whose values per cutoff are
/// the mean plus n (d - mean) / n̄ (Cochran, "Sampling Techniques", 1977, § 6.3), divided by 1 - n / N so that a cutoff which makes
/// the mean by itself is no evidence of it (the jackknife; Bell and McCaffrey, 2002). With as many series at every cutoff that is d.
fn against(differences: &Differences, overlap: usize) -> Option<Value> {
    let dated: Vec<(f64, f64)> =
        differences.values().filter_map(|mean| Some((mean.get()?, mean.count() as f64))).collect();
    let forecasts: f64 = dated.iter().map(|(_, n)| n).sum();
    let centre = dated.iter().map(|(difference, n)| n * difference).sum::<f64>() / forecasts;
    let typical = forecasts / dated.len() as f64;
    let balanced = 1.0 - 1.0 / dated.len() as f64;
    let residual = |(difference, n): &(f64, f64)| {
        // A single cutoff is told apart from nothing.
        let rest = (1.0 - n / forecasts).max(f64::MIN_POSITIVE);
        n / typical * (difference - centre) * balanced / rest
    };
    let residuals: Vec<f64> = dated.iter().map(residual).collect();
    let shift = centre - residuals.iter().sum::<f64>() / residuals.len() as f64;
    let about: Vec<f64> = residuals.iter().map(|residual| residual + shift).collect();
    let test = diebold_mariano(&about, overlap)?;
    Some(with(test, json!({ "n": about.len(), "horizon": overlap })))
}

/// A book that is long the third of the series foretold to rise most and short the third foretold to fall most, half of
/// the capital each, held from each cutoff to its last step; with fewer than three series the sign decides.
///
/// # Units
/// Returns per period as fractions of capital in either unit of errors; `cost_bps` per unit of weight traded, the first purchase
/// included. `None` where a value is no price.
fn long_short(group: &Group, unit: Unit, cost_bps: f64) -> Option<Value> {
    let mut last = std::collections::BTreeMap::new();
    for ((cutoff, step), moves) in &group.moves {
        last.insert(*cutoff, (*step, moves));
    }
    let mut held = vec![0.0; group.series.len()];
    let (mut gross, mut net, mut turnover) = (Vec::new(), Vec::new(), Mean::default());
    for (_, moves) in last.values() {
        let mut weights = vec![0.0; group.series.len()];
        weigh(moves, &mut weights);
        let earned = moves.iter().map(|m| Some(weights[m.series] * simple(m, unit)?)).sum::<Option<f64>>()?;
        let traded: f64 = weights.iter().zip(&held).map(|(new, old): (&f64, &f64)| (new - old).abs()).sum();
        gross.push(earned);
        net.push(earned - traded * cost_bps / 1e4);
        turnover.add(traded);
        held = weights;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut told = json!({
        "periods": net.len(), "gross": mean(&gross), "net": mean(&net), "turnover": turnover.get()?, "cost_bps": cost_bps,
    });
    if let (Some(test), Value::Object(map)) = (diebold_mariano(&net, group.overlap()), &mut told) {
        map.insert("t".into(), test.statistic.into());
        map.insert("p_value".into(), test.p_value.into());
    }
    Some(told)
}

/// A move as a fraction of what it is of; `None` of a value that is no price.
fn simple(moved: &Move, unit: Unit) -> Option<f64> {
    match unit {
        Unit::Value => (moved.last > 0.0).then(|| moved.came / moved.last),
        Unit::Return => Some(moved.came.exp_m1()),
    }
}

fn weigh(moves: &[Move], weights: &mut [f64]) {
    if moves.len() < CROSS_SECTION {
        for m in moves {
            weights[m.series] =
                if m.foretold == 0.0 { 0.0 } else { m.foretold.signum() / moves.len() as f64 };
        }
        return;
    }
    let mut order: Vec<&Move> = moves.iter().collect();
    // Ties by the number of the series, so that the book does not depend on how rows arrive.
    order.sort_by(|a, b| a.foretold.total_cmp(&b.foretold).then(a.series.cmp(&b.series)));
    if order[0].foretold == order[order.len() - 1].foretold {
        return;
    }
    let third = order.len() / 3;
    for m in &order[..third] {
        weights[m.series] = -0.5 / third as f64;
    }
    for m in &order[order.len() - third..] {
        weights[m.series] = 0.5 / third as f64;
    }
}
