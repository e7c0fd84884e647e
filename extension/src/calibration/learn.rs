//! `kronos.calibrate()`: every matured forecast once, in the order in which outcomes became known.

use super::described::{Described, describe};
use super::matured::{Candidate, read};
use super::slots::{Key, Scope, Slot, Slots};
use super::starts::instant;
use super::store::{Newest, write_version};
use super::{Definition, lock, model_key};
use crate::calendar::Instant;
use crate::call::now;
use crate::error::Result;
use crate::statement::{self, Sight};
use kronos_models::calibration::Outcome;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Rows written by one statement.
const CHUNK: usize = 10_000;

/// What became of one state.
pub struct Changed<'a> {
    /// Series; empty for the one of a relation without keys.
    pub series: &'a str,
    /// Step.
    pub step: i32,
    /// Outcomes learnt in all, and in this call.
    pub seen: (i64, i64),
    /// How it fares.
    pub described: &'a Described,
    /// When its newest outcome became known.
    pub known: Instant,
}

/// Lets a calibration learn what has matured up to `through`, and gives the states of series that changed.
///
/// # Errors
/// 42704, 42501; what reading the ledger and the outcomes raises.
pub fn calibrate(
    name: &str,
    through: Option<Instant>,
    mut emit: impl FnMut(&Definition, Changed<'_>) -> Result<()>,
) -> Result<()> {
    let mut definition = lock(name)?;
    definition.require_readable()?;
    let through = through.unwrap_or(i64::MAX).min(now());
    let anew = definition.options.rescore;
    let runs = fresh_runs(&definition, anew)?;
    let before = Newest::read(name)?;
    let bar = match definition.known_bar() {
        Some(bar) => bar,
        None => {
            let Some(series) = any_series(&definition, &runs)? else {
                settle(&definition, before, through)?;
                return take_up(&definition, &runs, &[]);
            };
            let Some(bar) = definition.find_bar(&series, through)? else {
                return settle(&definition, before, through);
            };
            bar
        }
    };
    let fold = RefCell::new(Fold {
        definition: &definition,
        sectors: definition.sectors()?,
        slots: Slots::default(),
        batch: Vec::new(),
        version: before.map_or(0, |newest| newest.version),
        anew,
        learnt: 0,
        late: 0,
        known: before.map_or(i64::MIN, |newest| newest.known),
        last: None,
        done: Vec::new(),
        later: Vec::new(),
    });
    read(
        &definition,
        runs.clone(),
        through,
        &bar,
        anew,
        |candidate| {
            fold.borrow_mut().batch.push(candidate);
            Ok(())
        },
        || fold.borrow_mut().take_batch(),
    )?;
    let fold = fold.into_inner();
    give_up(&definition)?;
    if !anew {
        forget_done(&definition, &fold.done)?;
        take_up(&definition, &runs, &fold.later)?;
    }
    if fold.late > 0 {
        tell_late(name, fold.late);
    }
    let settings = &definition.options.settings;
    let mut changed: Vec<(&Slot, Described)> = fold
        .slots
        .all
        .iter()
        .filter(|slot| slot.learnt > 0 && slot.stored.as_deref() != Some(&slot.group.to_bytes()))
        .map(|slot| (slot, describe(settings, &fold.slots, slot)))
        .collect();
    if changed.is_empty() {
        return settle(&definition, before, through);
    }
    changed.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
    write_version(&definition, fold.version + 1, (through, fold.known), fold.learnt, &changed)?;
    for (slot, described) in changed.iter().filter(|(slot, _)| slot.key.scope == Scope::Series) {
        emit(
            &definition,
            Changed {
                series: &slot.key.member,
                step: slot.key.step,
                seen: (slot.group.seen as i64, slot.learnt),
                described,
                known: slot.known,
            },
        )?;
    }
    Ok(())
}

/// Settles what was known at a past instant of which nothing was learnt: a replay that finds no news there has none for ever.
fn settle(definition: &Definition, before: Option<Newest>, through: Instant) -> Result<()> {
    if through >= now() || before.is_some_and(|newest| !newest.replays(through)) {
        return Ok(());
    }
    let (version, known) = before.map_or((0, through), |newest| (newest.version, newest.known));
    write_version(definition, version + 1, (through, known), 0, &[])
}

/// Outcomes that were taken off the queue without being learnt.
fn tell_late(name: &str, count: i64) {
    ereport!(
        PgLogLevel::NOTICE,
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("calibration \"{name}\" has not learnt {count} outcomes that came later than it remembers"),
        "A new calibration learns them in their place, and so does the option \"rescore\"."
    );
}

struct Fold<'a> {
    definition: &'a Definition,
    sectors: HashMap<String, String>,
    slots: Slots,
    batch: Vec<Candidate>,
    version: i64,
    anew: bool,
    learnt: i64,
    /// Outcomes that came too late.
    late: i64,
    known: Instant,
    /// The last candidate: rows that repeat it are the same forecast.
    last: Option<Candidate>,
    /// Places on the queue whose outcome was learnt.
    done: Vec<i64>,
    /// Fresh forecasts whose outcome is not known yet.
    later: Vec<Candidate>,
}

impl Fold<'_> {
    fn key(&self, candidate: &Candidate, scope: Scope, member: &str) -> Key {
        let model = model_key(self.definition.model.as_deref(), &candidate.model_version).to_owned();
        Key { model, scope, member: member.to_owned(), step: self.definition.step(candidate.step) }
    }

    fn own_key(&self, candidate: &Candidate) -> Key {
        self.key(candidate, Scope::Series, self.definition.member(&candidate.series))
    }

    /// The states that a series borrows from, and brings its outcomes to.
    fn pooled_keys(&self, candidate: &Candidate) -> [Option<Key>; 2] {
        if !self.definition.per_series {
            return [None, None];
        }
        let own = self.slots.get(&self.own_key(candidate));
        let sector = own.and_then(|slot| slot.sector.as_deref());
        [
            sector.map(|sector| self.key(candidate, Scope::Sector, sector)),
            Some(self.key(candidate, Scope::Global, "")),
        ]
    }

    fn take_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let known = || batch.iter().filter(|candidate| candidate.outcome.is_some());
        let first = self.slots.all.len();
        self.load(known().map(|candidate| self.own_key(candidate)).collect())?;
        // A series stays in the sector that it was first seen in.
        for slot in self.slots.all.iter_mut().skip(first).filter(|slot| slot.group_id.is_none()) {
            slot.sector = self.sectors.get(&slot.key.member).cloned();
        }
        self.load(known().flat_map(|candidate| self.pooled_keys(candidate)).flatten().collect())?;
        for candidate in batch {
            self.take(candidate);
        }
        Ok(())
    }

    /// Loads the states that are not loaded yet.
    fn load(&mut self, keys: Vec<Key>) -> Result<()> {
        let mut asked: HashSet<Key> = HashSet::new();
        let wanted: Vec<Key> = keys
            .into_iter()
            .filter(|key| self.slots.place(key).is_none() && asked.insert(key.clone()))
            .collect();
        self.slots.load(Sight::Now, self.definition, wanted, self.version, self.anew)
    }

    fn take(&mut self, candidate: Candidate) {
        let same = |other: &Candidate| {
            other.ts == candidate.ts && other.series == candidate.series && other.step == candidate.step
        };
        let model = |version: &str| model_key(self.definition.model.as_deref(), version).to_owned();
        let repeated = self
            .last
            .as_ref()
            .is_some_and(|last| same(last) && model(&last.model_version) == model(&candidate.model_version));
        match (candidate.outcome, candidate.queue_id) {
            (Some(outcome), queue_id) => {
                self.done.extend(queue_id);
                if !repeated {
                    self.learn(&candidate, outcome);
                }
            }
            (None, None) if !self.anew => {
                let twice = self.last.as_ref().is_some_and(|last| {
                    same(last)
                        && last.cutoff == candidate.cutoff
                        && last.model_version == candidate.model_version
                });
                if !twice {
                    self.later.push(candidate.clone());
                }
            }
            (None, _) => {}
        }
        self.last = Some(candidate);
    }

    fn learn(&mut self, candidate: &Candidate, (actual, known): (f64, Instant)) {
        let settings = &self.definition.options.settings;
        let [point, lower, upper] = candidate.forecast;
        let Some(forecast) = settings.unit.interval(point, lower, upper) else { return };
        let [sector, global] =
            self.pooled_keys(candidate).map(|key| key.and_then(|key| self.slots.place(&key)));
        let Some(own) = self.slots.place(&self.own_key(candidate)) else { return };
        if self.slots.all[own].group.is_late(known) {
            self.late += 1;
            return;
        }
        let Some((own, mut sector, mut global)) = slots_of(&mut self.slots.all, own, sector, global) else {
            return;
        };
        settings.learn(
            &mut own.group,
            sector.as_deref_mut().map(|slot| &mut slot.group),
            global.as_deref_mut().map(|slot| &mut slot.group),
            u32::try_from(candidate.step).unwrap_or(1),
            &forecast,
            Outcome { actual: settings.unit.enter(actual), cutoff: candidate.cutoff, known },
        );
        for slot in [Some(own), sector, global].into_iter().flatten() {
            slot.learnt += 1;
            slot.known = slot.known.max(known);
            slot.last = Some(forecast);
        }
        self.learnt += 1;
        self.known = self.known.max(known);
    }
}

/// States of three scopes at once.
fn slots_of(
    all: &mut [Slot],
    own: usize,
    sector: Option<usize>,
    global: Option<usize>,
) -> Option<(&mut Slot, Option<&mut Slot>, Option<&mut Slot>)> {
    match (sector, global) {
        (Some(sector), Some(global)) => {
            let [own, sector, global] = all.get_disjoint_mut([own, sector, global]).ok()?;
            Some((own, Some(sector), Some(global)))
        }
        (None, Some(other)) | (Some(other), None) => {
            let [own, other] = all.get_disjoint_mut([own, other]).ok()?;
            Some(if global.is_some() { (own, None, Some(other)) } else { (own, Some(other), None) })
        }
        (None, None) => Some((all.get_mut(own)?, None, None)),
    }
}

/// Runs that the calibration has not taken up yet; every run where it learns anew. One that is still running waits.
fn fresh_runs(definition: &Definition, anew: bool) -> Result<Vec<i64>> {
    let kinds: Vec<String> = definition.options.kinds.iter().map(ToString::to_string).collect();
    let runs = statement::value::<Vec<i64>>(
        Sight::Now,
        "select pg_catalog.array_agg(r.run_id) from kronos.runs r
         where r.relation::oid operator(pg_catalog.=) $2 and r.state operator(pg_catalog.<>) 'running'
           and r.kind operator(pg_catalog.=) any ($3)
           and ($4 or not exists (
             select from ledger.own_calibration_runs c
             where c.calibration operator(pg_catalog.=) $1 and c.run_id operator(pg_catalog.=) r.run_id))",
        &[definition.name.as_str().into(), definition.relation.into(), kinds.into(), anew.into()],
    )?;
    Ok(runs.unwrap_or_default())
}

/// A series that has a forecast to learn; `None` where there is nothing at all.
fn any_series(definition: &Definition, runs: &[i64]) -> Result<Option<String>> {
    Ok(statement::value::<String>(
        Sight::Now,
        "(select q.series from ledger.own_calibration_queue q where q.calibration operator(pg_catalog.=) $1 limit 1)
         union all
         (select f.series from kronos.forecasts f
          where f.run_id operator(pg_catalog.=) any ($2) and f.relation::oid operator(pg_catalog.=) $3
            and f.target operator(pg_catalog.=) $4 and f.level operator(pg_catalog.=) $5 limit 1)
         union all select null limit 1",
        &[
            definition.name.as_str().into(),
            runs.to_vec().into(),
            definition.relation.into(),
            definition.target.as_str().into(),
            definition.options.settings.level.into(),
        ],
    )?)
}

/// Puts forecasts whose outcome is not known yet on the queue, and notes that their runs have been read.
fn take_up(definition: &Definition, runs: &[i64], later: &[Candidate]) -> Result<()> {
    let name = definition.name.as_str();
    for chunk in later.chunks(CHUNK) {
        let instants = |of: fn(&Candidate) -> Instant| -> Result<Vec<TimestampWithTimeZone>> {
            chunk.iter().map(|candidate| instant(of(candidate))).collect()
        };
        let texts = |of: fn(&Candidate) -> &String| chunk.iter().map(|c| of(c).clone()).collect::<Vec<_>>();
        let numbers = |place: usize| chunk.iter().map(|c| c.forecast[place]).collect::<Vec<f64>>();
        statement::write(
            "insert into ledger.own_calibration_queue
               (calibration, series, step, ts, cutoff, model_version, forecast, lower, upper)
             select $1, q.* from unnest($2, $3, $4, $5, $6, $7, $8, $9) q",
            &[
                name.into(),
                texts(|c| &c.series).into(),
                chunk.iter().map(|c| c.step).collect::<Vec<i32>>().into(),
                instants(|c| c.ts)?.into(),
                instants(|c| c.cutoff)?.into(),
                texts(|c| &c.model_version).into(),
                numbers(0).into(),
                numbers(1).into(),
                numbers(2).into(),
            ],
        )?;
    }
    if !runs.is_empty() {
        statement::write(
            "insert into ledger.own_calibration_runs (calibration, run_id) select $1, r from pg_catalog.unnest($2) r
             on conflict do nothing",
            &[name.into(), runs.to_vec().into()],
        )?;
    }
    Ok(())
}

/// Takes forecasts that were learnt off the queue.
fn forget_done(definition: &Definition, done: &[i64]) -> Result<()> {
    for chunk in done.chunks(CHUNK) {
        statement::write(
            "delete from ledger.own_calibration_queue q
             where q.queue_id operator(pg_catalog.=) any ($2) and q.calibration operator(pg_catalog.=) $1",
            &[definition.name.as_str().into(), chunk.to_vec().into()],
        )?;
    }
    Ok(())
}

/// Stops waiting for outcomes that have not come for too long.
fn give_up(definition: &Definition) -> Result<()> {
    statement::write(
        "delete from ledger.own_calibration_queue q
         where q.calibration operator(pg_catalog.=) $1
           and q.queued_at operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) $2::pg_catalog.interval)",
        &[definition.name.as_str().into(), definition.options.patience.as_str().into()],
    )?;
    Ok(())
}
