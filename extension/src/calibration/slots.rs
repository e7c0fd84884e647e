//! States by key, read as of a version.

use super::Definition;
use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use kronos_models::calibration::{Group, Interval};
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
    /// The name it is stored under.
    pub fn name(self) -> &'static str {
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
