//! What people read of a state.

use super::slots::{Key, Scope, Slot, Slots};
use kronos_models::calibration::{Groups, Layers, Reason, Settings, Source};
use kronos_models::status::Status;

/// What people read of a state beside its bytes.
pub struct Described {
    /// Share within the calibrated interval.
    pub coverage: Option<f64>,
    /// The same lately.
    pub recent_coverage: Option<f64>,
    /// Share within the model's own.
    pub raw_coverage: Option<f64>,
    /// Mean error.
    pub bias: f64,
    /// Factor of the band.
    pub scale: f64,
    /// Radii of the last forecast.
    pub radii: (Option<f64>, Option<f64>),
    /// Mean width served.
    pub mean_width: Option<f64>,
    /// Why somebody should look, or burn-in.
    pub status: Option<Status>,
    /// How much of the calibration is served, and why.
    pub layers: (Layers, Reason),
    /// Interval scores of the first layer's intervals and of both layers', relative to that of the model's own.
    pub relative: (Option<f64>, Option<f64>),
}

impl Described {
    /// Whether somebody should look.
    pub fn drift(&self) -> bool {
        self.status.is_some_and(|status| status != Status::BurnIn)
    }
}

/// Describes a state beside those it borrows from.
pub fn describe(settings: &Settings, slots: &Slots, slot: &Slot) -> Described {
    let group = &slot.group;
    let pooled = |scope, member: &str| {
        let key = Key { scope, member: member.to_owned(), ..slot.key.clone() };
        slots.get(&key).map(|slot| &slot.group)
    };
    let own = slot.key.scope == Scope::Series;
    let groups = match own {
        true => Groups {
            series: Some(group),
            sector: slot.sector.as_deref().and_then(|sector| pooled(Scope::Sector, sector)),
            global: pooled(Scope::Global, ""),
        },
        false => Groups { global: Some(group), ..Groups::default() },
    };
    let served = slot.last.map(|last| settings.serve(groups, &last));
    let step = u32::try_from(slot.key.step).unwrap_or(1);
    let status = match &served {
        Some(served) if served.source == Source::BurnIn => Some(Status::BurnIn),
        Some(served) if served.unbounded => Some(Status::MaxRadius),
        _ if group.record.undercovers(settings.level, step) => Some(Status::Undercoverage),
        _ if group.record.model_drifts(step) => Some(Status::ModelDrift),
        _ => None,
    };
    let radii = served.filter(|served| served.source != Source::BurnIn).map(|served| served.interval);
    let merit = settings.merit(groups).unwrap_or(&group.merit);
    Described {
        coverage: group.record.coverage(),
        recent_coverage: group.record.recent_coverage(),
        raw_coverage: (group.seen > 0).then(|| 1.0 - group.record.raw_missed as f64 / group.seen as f64),
        bias: group.online.bias,
        scale: group.online.scale_squared.sqrt(),
        radii: (
            radii.map(|interval| interval.point - interval.lower),
            radii.map(|interval| interval.upper - interval.point),
        ),
        mean_width: (group.seen > 0).then_some(group.record.width),
        status,
        layers: (merit.layers(), merit.reason(settings)),
        relative: (merit.relative(Layers::First), merit.relative(Layers::All)),
    }
}
