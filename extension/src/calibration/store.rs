//! States in their tables: read by key and version, written as a new version.

use super::Definition;
use super::starts::instant;
use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use kronos_models::calibration::{Group, Interval};
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

/// The newest version and when its newest outcome became known; with `as_of` the newest that was known then.
pub fn newest_version(sight: Sight, name: &str, as_of: Instant) -> Result<Option<(i64, Instant)>> {
    Spi::connect(|client| {
        let mut rows = statement::select(
            client,
            sight,
            "select v.version, v.updated_through from ledger.readable_calibration_versions v
             where v.calibration operator(pg_catalog.=) $1 and v.updated_through operator(pg_catalog.<=) $2
             order by v.version desc limit 1",
            Some(1),
            &[name.into(), instant(as_of)?.into()],
        )?;
        Ok(match rows.next() {
            Some(row) => row.get::<i64>(1)?.zip(row.get::<TimestampWithTimeZone>(2)?.map(i64::from)),
            None => None,
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
    let states: Vec<Vec<u8>> = changed.iter().map(|(slot, _)| slot.group.to_bytes()).collect();
    statement::write(
        "insert into ledger.own_calibration_state (calibration, version, group_id, n, updated_through, coverage, recent_coverage,
           raw_coverage, bias, scale, q_lower, q_upper, mean_width, drift, status, state)
         select $1, $2, s.* from unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) s",
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
