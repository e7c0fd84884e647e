//! States in their tables: read by key and version, written as a new version.

use super::Definition;
use super::starts::instant;
use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use kronos_models::calibration::{Group, Interval, Layers, Reason};
use kronos_models::status::Status;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::Spi;
use std::collections::HashMap;

/// Whose experience a state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Of one series.
    Series,
    /// Of one sector.
    Sector,
    /// Of all series.
    Global,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Sector => "sector",
            Self::Global => "global",
        }
    }
}

/// What a state is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Name or version of the model.
    pub model: String,
    /// Kind of member.
    pub scope: Scope,
    /// Series or sector.
    pub member: String,
    /// Step; 0 for all.
    pub step: i32,
}

/// A state and what is known of it.
pub struct Slot {
    /// What it is kept under.
    pub key: Key,
    /// The state.
    pub group: Group,
    /// Its bytes as they are stored; `None` where nothing is.
    pub stored: Option<Vec<u8>>,
    /// Its row in `ledger.calibration_groups`.
    pub group_id: Option<i64>,
    /// Sector that the series borrows from.
    pub sector: Option<String>,
    /// Outcomes learnt in this call.
    pub learnt: i64,
    /// When the newest of them became known.
    pub known: Instant,
    /// The last forecast learnt.
    pub last: Option<Interval>,
}

/// States by key.
#[derive(Default)]
pub struct Slots {
    places: HashMap<Key, usize>,
    /// In the order in which they were first asked for.
    pub all: Vec<Slot>,
}

impl Slots {
    /// The place of a state; `None` where it was not loaded.
    pub fn place(&self, key: &Key) -> Option<usize> {
        self.places.get(key).copied()
    }

    /// A loaded state.
    pub fn get(&self, key: &Key) -> Option<&Slot> {
        self.place(key).map(|place| &self.all[place])
    }

    /// Loads states as of a version; those that are not there begin empty.
    ///
    /// With `anew` what is stored is only noted, and every state begins empty.
    pub fn load(
        &mut self,
        sight: Sight,
        definition: &Definition,
        keys: Vec<Key>,
        version: i64,
        anew: bool,
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let first = self.all.len();
        let column = |of: fn(&Key) -> String| keys.iter().map(of).collect::<Vec<String>>();
        let scopes = column(|key| key.scope.name().to_owned());
        let (models, members) = (column(|key| key.model.clone()), column(|key| key.member.clone()));
        let steps: Vec<i32> = keys.iter().map(|key| key.step).collect();
        for key in keys {
            self.places.insert(key.clone(), self.all.len());
            self.all.push(Slot {
                key,
                group: definition.options.settings.group(),
                stored: None,
                group_id: None,
                sector: None,
                learnt: 0,
                known: i64::MIN,
                last: None,
            });
        }
        Spi::connect(|client| {
            let rows = statement::select(
                client,
                sight,
                "select k.place, g.group_id, g.sector, s.state
                 from unnest($2, $3, $4, $5) with ordinality k(scope, model, member, step, place)
                 cross join lateral (
                   select g.group_id, g.sector from ledger.readable_calibration_groups g
                   where g.calibration operator(pg_catalog.=) $1 and g.scope operator(pg_catalog.=) k.scope
                     and g.model operator(pg_catalog.=) k.model and g.member operator(pg_catalog.=) k.member
                     and g.step operator(pg_catalog.=) k.step
                   limit 1) g
                 left join lateral (
                   select s.state from ledger.readable_calibration_state s
                   where s.group_id operator(pg_catalog.=) g.group_id and s.version operator(pg_catalog.<=) $6
                   order by s.version desc limit 1) s on true",
                None,
                &[
                    definition.name.as_str().into(),
                    scopes.into(),
                    models.into(),
                    members.into(),
                    steps.into(),
                    version.into(),
                ],
            )?;
            for row in rows {
                let place = row.get::<i64>(1)?.and_then(|place| usize::try_from(place - 1).ok());
                let Some(slot) = place.and_then(|place| self.all.get_mut(first + place)) else { continue };
                slot.group_id = row.get(2)?;
                slot.sector = row.get(3)?;
                slot.stored = row.get::<Vec<u8>>(4)?;
                // A reset leaves empty bytes.
                if let Some(bytes) = slot.stored.as_deref().filter(|bytes| !bytes.is_empty() && !anew) {
                    slot.group =
                        Group::from_bytes(bytes).ok_or_else(|| damaged(&definition.name, &slot.key))?;
                }
            }
            Ok(())
        })
    }
}

fn damaged(name: &str, key: &Key) -> Error {
    Error::DamagedState {
        what: format!("the state of calibration \"{name}\" for {} \"{}\"", key.scope.name(), key.member),
    }
}

/// How far the versions of a calibration have come.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    /// The newest version.
    pub version: i64,
    /// When the newest outcome in it became known.
    pub known: Instant,
    /// Up to when what was known is settled: the latest that a call has learnt through.
    settled: Instant,
    /// When the first version was made.
    first_made: Instant,
}

impl Newest {
    /// Reads it; `None` before the first version.
    pub fn read(name: &str) -> Result<Option<Self>> {
        Spi::connect(|client| {
            let mut rows = statement::select(
                client,
                Sight::Now,
                "select v.version, v.updated_through, pg_catalog.max(v.through) over (), pg_catalog.min(v.made_at) over ()
                 from ledger.readable_calibration_versions v
                 where v.calibration operator(pg_catalog.=) $1 order by v.version desc limit 1",
                Some(1),
                &[name.into()],
            )?;
            let Some(row) = rows.next() else { return Ok(None) };
            let at = |column: usize| -> Result<Instant> {
                Ok(row.get::<TimestampWithTimeZone>(column)?.map_or(i64::MIN, i64::from))
            };
            let version = row.get::<i64>(1)?.unwrap_or_default();
            Ok(Some(Self { version, known: at(2)?, settled: at(3)?, first_made: at(4)? }))
        })
    }

    /// Whether a call through that instant says of dates before the first version what nothing has said yet.
    pub fn replays(&self, through: Instant) -> bool {
        through > self.settled && through < self.first_made
    }
}

/// The version that answers what is asked as of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// That one.
    Of(i64),
    /// Nothing has been learnt yet.
    None,
    /// There are versions, but none of what was known then.
    NoneOfThen,
}

/// The version that answers what is asked as of `as_of` now and for ever, whatever is learnt later.
///
/// That is the newest one made by then. Where none was, a past date is replayed: of the versions whose outcomes were all known then,
/// the newest that was made before what was known then was settled. A call settles it up to its `through`, so that outcomes which
/// turn up later, though they carry an earlier date, change no answer.
///
/// # Errors
/// What the server raises.
pub fn version_as_of(sight: Sight, name: &str, as_of: Instant) -> Result<Version> {
    Spi::connect(|client| {
        let arguments = [name.into(), instant(as_of)?.into()];
        let made = "select v.version from ledger.readable_calibration_versions v
                    where v.calibration operator(pg_catalog.=) $1 and v.made_at operator(pg_catalog.<=) $2
                    order by v.version desc limit 1";
        let mut rows = statement::select(client, sight, made, Some(1), &arguments)?;
        if let Some(row) = rows.next() {
            return Ok(row.get::<i64>(1)?.map_or(Version::None, Version::Of));
        }
        let replayed = "select pg_catalog.max(s.version) filter (where s.updated_through operator(pg_catalog.<=) $2
                            and s.settled operator(pg_catalog.>=) $2
                            and (s.before is null or s.before operator(pg_catalog.<) $2)),
                          pg_catalog.count(*)
                        from (select v.version, v.updated_through, pg_catalog.max(v.through) over () as settled,
                                pg_catalog.max(v.through) over (order by v.version
                                  rows between unbounded preceding and 1 preceding) as before
                              from ledger.readable_calibration_versions v
                              where v.calibration operator(pg_catalog.=) $1) s";
        let mut rows = statement::select(client, sight, replayed, Some(1), &arguments)?;
        let Some(row) = rows.next() else { return Ok(Version::None) };
        Ok(match (row.get::<i64>(1)?, row.get::<i64>(2)?) {
            (Some(version), _) => Version::Of(version),
            (None, Some(0) | None) => Version::None,
            (None, Some(_)) => Version::NoneOfThen,
        })
    })
}

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

/// Writes a version with the states that changed.
pub fn write_version(
    definition: &Definition,
    version: i64,
    (through, updated_through): (Instant, Instant),
    learnt: i64,
    changed: &[(&Slot, Described)],
) -> Result<()> {
    let name = definition.name.as_str();
    statement::write(
        "insert into ledger.own_calibration_versions (calibration, version, through, updated_through, n_new)
         values ($1, $2, $3, $4, $5)",
        &[
            name.into(),
            version.into(),
            instant(through)?.into(),
            instant(updated_through)?.into(),
            learnt.into(),
        ],
    )?;
    let ids = group_ids(name, changed.iter().map(|(slot, _)| *slot).collect())?;
    let numbers = |of: fn(&Described) -> Option<f64>| -> Vec<Option<f64>> {
        changed.iter().map(|(_, described)| of(described)).collect()
    };
    let seen: Vec<i64> = changed.iter().map(|(slot, _)| slot.group.seen as i64).collect();
    let known = changed.iter().map(|(slot, _)| instant(slot.known)).collect::<Result<Vec<_>>>()?;
    let drift: Vec<bool> = changed.iter().map(|(_, described)| described.drift()).collect();
    let status: Vec<Option<String>> = changed
        .iter()
        .map(|(_, described)| described.status.map(|status| status.word().to_owned()))
        .collect();
    let words = |of: fn((Layers, Reason)) -> &'static str| -> Vec<&'static str> {
        changed.iter().map(|(_, described)| of(described.layers)).collect()
    };
    let states: Vec<Vec<u8>> = changed.iter().map(|(slot, _)| slot.group.to_bytes()).collect();
    statement::write(
        "insert into ledger.own_calibration_state (calibration, version, group_id, n, updated_through, coverage, recent_coverage,
           raw_coverage, bias, scale, q_lower, q_upper, mean_width, drift, status, state, layers, reason, score_first, score_all)
         select $1, $2, s.*
         from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) s",
        &[
            name.into(),
            version.into(),
            ids.into(),
            seen.into(),
            known.into(),
            numbers(|d| d.coverage).into(),
            numbers(|d| d.recent_coverage).into(),
            numbers(|d| d.raw_coverage).into(),
            numbers(|d| Some(d.bias)).into(),
            numbers(|d| Some(d.scale)).into(),
            numbers(|d| d.radii.0).into(),
            numbers(|d| d.radii.1).into(),
            numbers(|d| d.mean_width).into(),
            drift.into(),
            status.into(),
            states.into(),
            words(|(layers, _)| layers.name()).into(),
            words(|(_, reason)| reason.name()).into(),
            numbers(|d| d.relative.0).into(),
            numbers(|d| d.relative.1).into(),
        ],
    )?;
    Ok(())
}

/// The identities of groups, those that are new among them made.
fn group_ids(name: &str, slots: Vec<&Slot>) -> Result<Vec<i64>> {
    let fresh: Vec<&Slot> = slots.iter().copied().filter(|slot| slot.group_id.is_none()).collect();
    let mut made: HashMap<Key, i64> = HashMap::new();
    if !fresh.is_empty() {
        let column = |of: fn(&Slot) -> String| fresh.iter().copied().map(of).collect::<Vec<String>>();
        let steps: Vec<i32> = fresh.iter().map(|slot| slot.key.step).collect();
        let sectors: Vec<Option<String>> = fresh.iter().map(|slot| slot.sector.clone()).collect();
        Spi::connect_mut(|client| {
            let rows = statement::write_returning(
                client,
                "insert into ledger.own_calibration_groups (calibration, scope, model, member, step, sector)
                 select $1, g.* from unnest($2, $3, $4, $5, $6) g
                 returning scope, model, member, step, group_id",
                &[
                    name.into(),
                    column(|slot| slot.key.scope.name().to_owned()).into(),
                    column(|slot| slot.key.model.clone()).into(),
                    column(|slot| slot.key.member.clone()).into(),
                    steps.into(),
                    sectors.into(),
                ],
            )?;
            for row in rows {
                let text = |column: usize| Ok::<_, Error>(row.get::<String>(column)?.unwrap_or_default());
                let scope = match text(1)?.as_str() {
                    "series" => Scope::Series,
                    "sector" => Scope::Sector,
                    _ => Scope::Global,
                };
                let step = row.get::<i32>(4)?.unwrap_or_default();
                let key = Key { model: text(2)?, scope, member: text(3)?, step };
                made.insert(key, row.get::<i64>(5)?.unwrap_or_default());
            }
            Ok::<_, Error>(())
        })?;
    }
    slots
        .into_iter()
        .map(|slot| {
            slot.group_id
                .or_else(|| made.get(&slot.key).copied())
                .ok_or_else(|| Error::Internal { what: "a group of a calibration was not made".into() })
        })
        .collect()
}
