//! What the views `kronos.stat_*` read, and `kronos.stat_reset()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use crate::engine;
use crate::error::Error;
use kronos_engine::clock::UnixMicros;
use kronos_engine::message::{ModelState, ModelStatus};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::time::Duration;

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCHS: i64 = 946_684_800_000_000;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // the row type is what TableIterator wants spelt out
fn stat_get_models() -> Result<
    TableIterator<
        'static,
        (
            name!(model_version, String),
            name!(device, String),
            name!(state, &'static str),
            name!(calls, i64),
            name!(series, i64),
            name!(rows, i64),
            name!(errors, i64),
            name!(last_error, Option<String>),
            name!(last_error_at, Option<TimestampWithTimeZone>),
            name!(total_time, f64),
            name!(mean_time, Option<f64>),
            name!(queue_time, f64),
            name!(avg_batch, Option<f64>),
            name!(mem_bytes, i64),
            name!(stats_reset, TimestampWithTimeZone),
        ),
    >,
    ErrorReport,
> {
    let models = engine::status()?.map_or_else(Vec::new, |status| status.models);
    let rows = models
        .into_iter()
        .map(|ModelStatus { version, device, state, memory_bytes, counters, since }| {
            let state = match state {
                ModelState::Loaded => "loaded",
                ModelState::Loading => "loading",
                ModelState::Failed => "failed",
                ModelState::Idle => "idle",
            };
            let total = milliseconds(counters.total);
            Ok((
                version,
                device,
                state,
                bigint(counters.calls),
                bigint(counters.series),
                bigint(counters.rows),
                bigint(counters.errors),
                counters.last_error,
                counters.last_error_at.map(instant).transpose()?,
                total,
                ratio(total, counters.calls as f64),
                milliseconds(counters.queued),
                ratio(counters.step_rows as f64, counters.steps as f64),
                bigint(memory_bytes),
                instant(since)?,
            ))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // as above
fn stat_get_requests() -> Result<
    TableIterator<
        'static,
        (
            name!(request_id, i64),
            name!(pid, i32),
            name!(model_version, String),
            name!(series, i64),
            name!(state, &'static str),
            name!(queued_at, TimestampWithTimeZone),
            name!(started_at, Option<TimestampWithTimeZone>),
            name!(steps_done, i64),
            name!(steps_total, i64),
        ),
    >,
    ErrorReport,
> {
    let requests = engine::status()?.map_or_else(Vec::new, |status| status.requests);
    let rows = requests
        .into_iter()
        .map(|request| {
            Ok((
                bigint(request.id),
                i32::try_from(request.pid).unwrap_or_default(),
                request.version,
                bigint(request.series),
                if request.progress.queued { "queued" } else { "running" },
                instant(request.queued_at)?,
                request.started_at.map(instant).transpose()?,
                bigint(request.progress.done),
                bigint(request.progress.total),
            ))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // as above
fn stat_get_devices() -> Result<
    TableIterator<
        'static,
        (
            name!(device, String),
            name!(name, String),
            name!(mem_used, i64),
            name!(mem_limit, i64),
            name!(utilization, f64),
            name!(models, i64),
        ),
    >,
    ErrorReport,
> {
    let devices = engine::status()?.map_or_else(Vec::new, |status| status.devices);
    Ok(TableIterator::new(devices.into_iter().map(|device| {
        (
            device.device,
            device.name,
            bigint(device.used_bytes),
            bigint(device.limit_bytes),
            device.utilization,
            bigint(device.models),
        )
    })))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // as above
fn stat_get_engines() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(started, TimestampWithTimeZone),
            name!(restarts, i64),
            name!(mem_bytes, i64),
            name!(connections, i64),
            name!(queued, i64),
            name!(running, i64),
        ),
    >,
    ErrorReport,
> {
    let engine = engine::status()?.map(|status| status.engine);
    let rows = engine
        .map(|engine| {
            Ok::<_, Error>((
                i32::try_from(engine.pid).unwrap_or_default(),
                instant(engine.started_at)?,
                bigint(engine.restarts),
                bigint(engine.resident_bytes),
                bigint(engine.connections),
                bigint(engine.queued),
                bigint(engine.running),
            ))
        })
        .transpose()?;
    Ok(TableIterator::new(rows))
}

#[pg_extern(sql = false)]
fn stat_reset() -> Result<(), ErrorReport> {
    Ok(engine::reset_statistics()?)
}

fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn ratio(sum: f64, count: f64) -> Option<f64> {
    (count > 0.0).then_some(sum / count)
}

fn instant(micros: UnixMicros) -> Result<TimestampWithTimeZone, Error> {
    TimestampWithTimeZone::try_from(micros - EPOCHS)
        .map_err(|_| Error::Internal { what: "the engine's clock is out of range".into() })
}
