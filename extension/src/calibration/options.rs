//! The options of `kronos.create_calibration()`.

use crate::error::{Error, Result};
use crate::guc;
use crate::json::JsonB;
use crate::options::Given;
use kronos_models::calibration::{Method, Score, Settings, Unit};
use serde_json::{Map, Value, json};

/// Every key.
const KEYS: &[&str] = &[
    "actual_col",
    "asymmetric",
    "bucket_width",
    "burn_in",
    "calendar",
    "csat",
    "earn",
    "groups",
    "ki",
    "kind",
    "known_at_col",
    "lambda",
    "lr",
    "max_bias_bps",
    "max_move",
    "max_radius",
    "max_scale",
    "min_history",
    "min_scale",
    "online",
    "outlier",
    "patience",
    "prior_sector",
    "prior_series",
    "relation",
    "rescore",
    "score",
    "spread_lambda",
    "unit",
    "window",
];

/// Targets whose errors are returns.
const PRICES: &[&str] = &["open", "high", "low", "close", "price", "vwap", "adj_close"];

/// Runs whose forecasts count, by the name of the option.
const KINDS: &[(&str, &[&str])] =
    &[("live", &["live", "manual"]), ("backtest", &["backtest"]), ("any", &["live", "manual", "backtest"])];

/// Units of errors.
const UNITS: &[(&str, Unit)] = &[("log", Unit::Log), ("linear", Unit::Linear)];

/// Step size under [`Score::Cqr`].
const CQR_STEP_SIZE: f64 = 0.05;

/// Basis points of a unit.
const BASIS_POINTS: f64 = 1e4;

/// The options of a calibration; holds valid values only.
#[derive(Debug, Clone)]
pub struct CalibrationOptions {
    /// The rules.
    pub settings: Settings,
    /// Column of the outcomes, where it is not called as the target.
    pub actual_col: Option<String>,
    /// Width of a bar as the caller wrote it.
    pub bucket_width: Option<String>,
    /// Calendar whose zone local times are in.
    pub calendar: String,
    /// Query of series and sector.
    pub groups: Option<String>,
    /// Kinds of runs.
    pub kinds: &'static [&'static str],
    /// Column that says when an outcome could be known.
    pub known_at_col: Option<String>,
    /// Interval after which an outcome is not waited for any longer.
    pub patience: String,
    /// Input of the forecasts, where it is not the relation of the outcomes.
    pub relation: Option<String>,
    /// Learns everything anew at every call.
    pub rescore: bool,
    kind: &'static str,
}

/// A value out of a list, or the error that names the list.
pub fn choice<T>(what: &'static str, got: &str, all: &[T], name: impl Fn(&T) -> &'static str) -> Result<T>
where
    T: Copy,
{
    all.iter().copied().find(|one| name(one) == got).ok_or_else(|| Error::UnknownChoice {
        what,
        got: got.to_owned(),
        valid: all.iter().map(|one| name(one).to_owned()).collect(),
    })
}

impl CalibrationOptions {
    /// Checks the options; NULL means none.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>, level: f64, method: Method, target: &str) -> Result<Self> {
        let given = Given::options(options, KEYS)?;
        let text = |key: &str| Ok::<_, Error>(given.text(key)?.map(str::to_owned));
        let unit = match given.text("unit")? {
            Some(name) => choice("unit", name, UNITS, |(name, _)| name)?.1,
            None if PRICES.contains(&target) => Unit::Log,
            None => Unit::Linear,
        };
        let defaults = Settings::new(level, method, unit)?;
        let number = |key: &'static str, default: f64| {
            Ok::<_, Error>(given.number(key, "a number", f64::is_finite)?.unwrap_or(default))
        };
        let count = |key: &'static str, most: usize, default: u64| {
            Ok::<_, Error>(given.integer(key, 0, most)?.map_or(default, |count| count as u64))
        };
        let score = match given.text("score")? {
            None => defaults.score,
            Some(name) => choice("score", name, &Score::ALL, |score| score.name())?,
        };
        // Without a volatility of its own the tracker has to find the whole distance by itself.
        let step_size = if score == Score::Cqr { CQR_STEP_SIZE } else { defaults.lr };
        let settings = Settings {
            score,
            asymmetric: given.boolean("asymmetric")?.unwrap_or(defaults.asymmetric),
            lr: number("lr", step_size)?,
            ki: number("ki", defaults.ki)?,
            csat: number("csat", defaults.csat)?,
            window: given.integer("window", 20, 10_000)?.unwrap_or(defaults.window),
            burn_in: count("burn_in", 1_000_000, defaults.burn_in)?,
            min_history: count("min_history", 1_000_000, defaults.min_history)?,
            max_radius: max_radius(&given)?.unwrap_or(defaults.max_radius),
            spread_lambda: number("spread_lambda", defaults.spread_lambda)?,
            online: given.boolean("online")?.unwrap_or(defaults.online),
            lambda: number("lambda", defaults.lambda)?,
            outlier: number("outlier", defaults.outlier)?,
            max_move: number("max_move", defaults.max_move)?,
            max_bias: given
                .number("max_bias_bps", "a number of at least 0", |bps| bps >= 0.0)?
                .map_or(defaults.max_bias, |bps| bps / BASIS_POINTS),
            scale: (number("min_scale", defaults.scale.0)?, number("max_scale", defaults.scale.1)?),
            prior_series: number("prior_series", defaults.prior_series)?,
            prior_sector: number("prior_sector", defaults.prior_sector)?,
            earn: given.boolean("earn")?.unwrap_or(defaults.earn),
            ..defaults
        };
        settings.validate()?;
        let kind = given.text("kind")?.unwrap_or("live");
        let (kind, kinds) = choice("kind", kind, KINDS, |(name, _)| name)?;
        Ok(Self {
            settings,
            actual_col: text("actual_col")?,
            bucket_width: text("bucket_width")?,
            calendar: text("calendar")?.unwrap_or_else(guc::default_calendar),
            groups: text("groups")?,
            kinds,
            known_at_col: text("known_at_col")?,
            patience: text("patience")?.unwrap_or_else(|| "1 year".into()),
            relation: text("relation")?,
            rescore: given.boolean("rescore")?.unwrap_or(false),
            kind,
        })
    }

    /// The options with defaults filled in, as they are stored: another release's defaults change no calibration.
    pub fn stored(&self) -> Value {
        let s = &self.settings;
        let Value::Object(mut all) = json!({
            "asymmetric": s.asymmetric, "burn_in": s.burn_in, "calendar": self.calendar, "csat": s.csat, "earn": s.earn, "ki": s.ki,
            "kind": self.kind, "lambda": s.lambda, "lr": s.lr, "max_radius": s.max_radius, "max_scale": s.scale.1,
            "min_history": s.min_history, "min_scale": s.scale.0, "online": s.online, "outlier": s.outlier,
            "patience": self.patience, "prior_sector": s.prior_sector, "prior_series": s.prior_series,
            "rescore": self.rescore, "score": s.score.name(), "spread_lambda": s.spread_lambda,
            "unit": if s.unit == Unit::Log { "log" } else { "linear" }, "window": s.window,
        }) else {
            return Value::Object(Map::new());
        };
        let optional = [
            ("actual_col", self.actual_col.clone().map(Value::from)),
            ("bucket_width", self.bucket_width.clone().map(Value::from)),
            ("groups", self.groups.clone().map(Value::from)),
            ("known_at_col", self.known_at_col.clone().map(Value::from)),
            ("relation", self.relation.clone().map(Value::from)),
            // No limit is no key.
            ("max_bias_bps", s.max_bias.is_finite().then(|| Value::from(s.max_bias * BASIS_POINTS))),
            ("max_move", s.max_move.is_finite().then(|| Value::from(s.max_move))),
        ];
        all.extend(optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        Value::Object(all)
    }
}

/// The option `max_radius`: a number of standard deviations, also written `"10 sigma"`.
fn max_radius(given: &Given) -> Result<Option<f64>> {
    let Ok(Some(text)) = given.text("max_radius") else {
        return given.number("max_radius", "a number of standard deviations such as 10", |r| r >= 1.0);
    };
    let number =
        text.trim().trim_end_matches("sigma").trim().parse().ok().filter(|radius: &f64| *radius >= 1.0);
    number.map(Some).ok_or_else(|| Error::InvalidArgument {
        name: "option \"max_radius\"".into(),
        expected: "a number of standard deviations such as \"10 sigma\"".into(),
        got: format!("\"{text}\""),
        hint: None,
    })
}
