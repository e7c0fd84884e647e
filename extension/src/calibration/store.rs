//! Versions of a calibration: which one answers, and how a new one is written.

use super::Definition;
use super::described::Described;
use super::slots::{Key, Scope, Slot};
use super::starts::instant;
use crate::calendar::Instant;
use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use kronos_models::calibration::{Layers, Reason};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::Spi;
use std::collections::HashMap;

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
