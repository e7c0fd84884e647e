//! What a calibration makes of the forecasts of one call.

use super::slots::{Key, Scope, Slots};
use super::store::{Version, version_as_of};
use super::{Definition, model_key};
use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::statement::Sight;
use kronos_models::calibration::{Groups, Interval, Layers, Source, Unit};
use kronos_models::status::Status;

/// A calibration that serves one call.
pub struct Serving {
    definition: Definition,
    /// Version as of which states are read.
    version: Version,
    model: String,
    /// Sectors and all series, which every series may borrow from.
    pooled: Slots,
}

/// What is known of one series.
pub struct States {
    own: Slots,
    sector: Option<String>,
    member: String,
}

/// One step of a forecast as a calibration leaves it, in the units of the target.
#[derive(Debug, Clone, Copy)]
pub struct Calibrated {
    /// Point, lower and upper of the model itself.
    pub raw: [f64; 3],
    /// Point, lower and upper that are served.
    pub served: [f64; 3],
    /// Why nothing could be made of it.
    pub status: Option<Status>,
    /// Whether it is the model's own: for that reason, or because no layer earns its width.
    own: bool,
    unit: Unit,
    from: Interval,
    to: Interval,
}

impl Calibrated {
    /// Where the calibration moves a value of the model's distribution: the point to the point and the ends to the ends,
    /// evenly between and beyond, so that what was ordered stays ordered.
    pub fn moved(&self, value: f64) -> f64 {
        if self.own {
            return value;
        }
        let at = self.unit.enter(value);
        if !at.is_finite() {
            return value;
        }
        let Interval { point, lower, upper } = self.from;
        let to = &self.to;
        let half = |from: f64, to: f64| if from > 0.0 { to / from } else { 1.0 };
        let stretched = if at < point {
            to.point - (point - at) * half(point - lower, to.point - to.lower)
        } else {
            to.point + (at - point) * half(upper - point, to.upper - to.point)
        };
        self.unit.leave(stretched)
    }

    /// A price of the bar whose close is the point: what is added to the point, or the factor it is multiplied by.
    pub fn shifted(&self, value: f64) -> f64 {
        if self.own {
            return value;
        }
        match self.unit {
            Unit::Linear => value + (self.to.point - self.from.point),
            Unit::Log => value * self.factor(),
        }
    }

    /// The factor of amounts of money.
    pub fn factor(&self) -> f64 {
        match self.unit {
            Unit::Log if !self.own => (self.to.point - self.from.point).exp(),
            _ => 1.0,
        }
    }
}

impl Serving {
    /// Prepares a calibration for forecasts of a model at a level, as of an instant.
    ///
    /// # Errors
    /// 42704 for a name that does not exist, 22023 where level or model are not those it is for.
    pub fn open(name: &str, level: f64, as_of: Option<Instant>, model_version: &str) -> Result<Self> {
        let definition = Definition::load(name, Sight::Query)?;
        let mismatch = |what, expected: String, got: String| {
            Err(Error::CalibrationMismatch { name: name.to_owned(), what, expected, got })
        };
        let own = definition.options.settings.level;
        if own != level {
            return mismatch("level", own.to_string(), level.to_string());
        }
        if let Some(model) = &definition.model
            && model_key(Some(model), model_version) != model
        {
            return mismatch("model", format!("'{model}'"), format!("'{model_version}'"));
        }
        let version = version_as_of(Sight::Query, name, as_of.unwrap_or(i64::MAX))?;
        let model = model_key(definition.model.as_deref(), model_version).to_owned();
        Ok(Self { definition, version, model, pooled: Slots::default() })
    }

    /// The calibration's name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// The version of its states that serves.
    pub fn version(&self) -> Option<i64> {
        match self.version {
            Version::Of(version) => Some(version),
            Version::None | Version::NoneOfThen => None,
        }
    }

    /// Whether it is for this column.
    pub fn is_for(&self, target: &str) -> bool {
        self.definition.target == target
    }

    /// Fails unless one of the targets is the one it is for.
    ///
    /// # Errors
    /// 22023.
    pub fn check_targets<'a>(&self, mut targets: impl Iterator<Item = &'a str>) -> Result<()> {
        if targets.any(|target| self.is_for(target)) {
            return Ok(());
        }
        Err(Error::CalibrationMismatch {
            name: self.name().to_owned(),
            what: "targets",
            expected: format!("'{{{}}}'", self.definition.target),
            got: "the columns given".into(),
        })
    }

    /// Reads what is known of a series, for steps up to `horizon`.
    pub fn states(&mut self, series: Option<&str>, horizon: usize) -> Result<States> {
        let series = series.unwrap_or_default();
        let member = self.definition.member(series).to_owned();
        let mut states = States { own: Slots::default(), sector: None, member: member.clone() };
        let Some(version) = self.version() else { return Ok(states) };
        let mut steps: Vec<i32> =
            (1..=i32::try_from(horizon).unwrap_or(i32::MAX)).map(|step| self.definition.step(step)).collect();
        steps.dedup();
        let key = |scope, member: &str, step| Key {
            model: self.model.clone(),
            scope,
            member: member.to_owned(),
            step,
        };
        let own = steps.iter().map(|&step| key(Scope::Series, &member, step)).collect();
        states.own.load(Sight::Query, &self.definition, own, version, false)?;
        if !self.definition.per_series {
            return Ok(states);
        }
        // The sector is the one that the series was first seen in: a past forecast must not change with what is said of the
        // series today. Until its first outcome it borrows from all series.
        let noted = states.own.all.iter().find(|slot| slot.stored.is_some());
        states.sector = noted.and_then(|slot| slot.sector.clone());
        let mut pooled: Vec<Key> = steps.iter().map(|&step| key(Scope::Global, "", step)).collect();
        if let Some(sector) = &states.sector {
            pooled.extend(steps.iter().map(|&step| key(Scope::Sector, sector, step)));
        }
        pooled.retain(|key| self.pooled.place(key).is_none());
        self.pooled.load(Sight::Query, &self.definition, pooled, version, false)?;
        Ok(states)
    }

    /// Applies what is known to one step; `None` for a forecast without an interval, or one the unit has no place for.
    pub fn apply(&self, states: &States, step: i32, raw: [f64; 3]) -> Option<Calibrated> {
        let settings = &self.definition.options.settings;
        let [point, lower, upper] = raw;
        let from = settings.unit.interval(point, lower, upper)?;
        let step = self.definition.step(step);
        let key =
            |scope, member: &str| Key { model: self.model.clone(), scope, member: member.to_owned(), step };
        // A state that is not stored is no state.
        let stored =
            |slots: &'_ Slots, key: Key| slots.place(&key).filter(|&place| slots.all[place].stored.is_some());
        let pooled = |scope, member: &str| {
            stored(&self.pooled, key(scope, member)).map(|place| &self.pooled.all[place].group)
        };
        let groups = Groups {
            series: stored(&states.own, key(Scope::Series, &states.member))
                .map(|place| &states.own.all[place].group),
            sector: states.sector.as_deref().and_then(|sector| pooled(Scope::Sector, sector)),
            global: pooled(Scope::Global, ""),
        };
        let served = settings.serve(groups, &from);
        let status = match (self.version, served.source) {
            (Version::NoneOfThen, _) => Some(Status::NoVersion),
            (_, Source::BurnIn) => Some(Status::BurnIn),
            _ => None,
        };
        let own = status.is_some() || served.layers == Layers::Model;
        let leave = |value| settings.unit.leave(value);
        let Interval { point, lower, upper } = served.interval;
        Some(Calibrated {
            raw,
            served: if own { raw } else { [leave(point), leave(lower), leave(upper)] },
            status,
            own,
            unit: settings.unit,
            from,
            to: served.interval,
        })
    }
}
