//! Decoding of many series and paths together, one step at a time.
//!
//! A series may join between any two steps and leaves when its paths are complete, so requests of different connections
//! share one batch without waiting for the longest. Its numbers do not depend on who else is there: every kernel computes
//! a row independently of the others, and random draws are addressed by (stream, path, step).

use super::Kronos;
use super::network::PathBatch;
use super::normalise::Stats;
use super::series::{Part, Series};
use super::step::steps;
use super::tokenizer::Token;
use crate::ask::LARGEST;
use crate::bars::{BarOptions, BarPaths, BarRequest, CHANNELS, Stamp, Window, cohere};
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::model::SeriesId;

/// Rows decoded in one pass of the tokenizer's decoder; more would only cost memory.
const DECODE_ROWS: usize = 2048;

/// Series in flight.
#[derive(Debug)]
pub struct Batch<'m> {
    model: &'m Kronos,
    series: Vec<Series>,
    next_id: SeriesId,
}

/// A finished series before it is turned into bars.
#[derive(Debug)]
pub struct Finished {
    pub(super) series: Series,
    /// Normalised values, [path][step][channel].
    pub(super) values: Vec<f32>,
}

impl<'m> Batch<'m> {
    /// An empty batch of a model.
    pub fn new(model: &'m Kronos) -> Self {
        Self { model, series: Vec::new(), next_id: 0 }
    }

    /// Whether no series is in flight.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Paths being decoded.
    pub fn rows(&self) -> usize {
        self.series.iter().map(|series| series.active.len()).sum()
    }

    /// Steps done and steps in all of a series in flight, its context counted as one step.
    pub fn progress(&self, id: SeriesId) -> Option<(usize, usize)> {
        let series = self.series.iter().find(|series| series.id == id)?;
        let waves = series.samples.div_ceil(series.wave);
        let done = series.finished.len() / series.wave * series.horizon + series.step;
        Some((1 + done, 1 + waves * series.horizon))
    }

    /// Drops a series; its memory is free at once.
    pub fn remove(&mut self, id: SeriesId) {
        self.series.retain(|series| series.id != id);
    }

    /// Encodes and prefills a series; its paths decode with the next [`Batch::step`].
    ///
    /// # Errors
    /// Those of the request; [`ModelError::MemoryLimit`] when one path alone exceeds `options.memory_limit`;
    /// [`ModelError::Cancelled`].
    pub fn admit(
        &mut self,
        request: &BarRequest,
        options: &BarOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<SeriesId> {
        let mut admitted = self.admit_all(&[(request, *options)], interrupt)?;
        // One result for one request; its absence would be a defect and is reported as one.
        admitted.pop().unwrap_or(Err(ModelError::Cancelled))
    }

    /// Encodes and prefills several series in one pass; a series gives the same bits as by itself.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] and backend errors: then none has joined. What is wrong with one series is in its place,
    /// as for [`Batch::admit`].
    pub fn admit_all(
        &mut self,
        requests: &[(&BarRequest, BarOptions)],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<SeriesId>>> {
        let network = &self.model.network;
        let plans: Vec<Result<Plan>> =
            requests.iter().map(|(request, options)| self.model.plan(request, options)).collect();
        let planned =
            || requests.iter().zip(&plans).filter_map(|(request, plan)| Some((request, plan.as_ref().ok()?)));
        let mut bars = Vec::new();
        let mut rows = Vec::new();
        let mut stats = Vec::new();
        for ((request, _), plan) in planned() {
            let used = &request.bars[request.bars.len() - plan.context..];
            let own = Stats::of(used);
            bars.extend(own.normalise(used));
            rows.push(used.len());
            stats.push(own);
        }
        let mut encoded = network.encode_all(&bars, &rows, interrupt)?.into_iter();
        let mut contexts: Vec<(Vec<Token>, Vec<Stamp>)> = Vec::with_capacity(rows.len());
        for ((request, _), plan) in planned() {
            let dropped = plan.context.saturating_sub(self.model.max_context);
            let tokens = encoded.by_ref().take(plan.context).skip(dropped).collect();
            contexts.push((tokens, request.stamps[request.bars.len() - plan.context + dropped..].to_vec()));
        }
        let rows: Vec<usize> = contexts.iter().map(|(tokens, _)| tokens.len()).collect();
        let tokens: Vec<Token> = contexts.iter().flat_map(|(tokens, _)| tokens).copied().collect();
        let stamps: Vec<Stamp> =
            contexts.iter().flat_map(|(tokens, stamps)| &stamps[..tokens.len()]).copied().collect();
        let roots = match rows.is_empty() {
            true => Vec::new(),
            false => network.contexts(&tokens, &stamps, &rows, interrupt)?,
        };
        let mut prepared = stats.into_iter().zip(contexts).zip(roots);
        let admitted = requests.iter().zip(plans).map(|((request, options), plan)| {
            let plan = plan?;
            let Some(((stats, (context, stamps)), (root, root_hidden))) = prepared.next() else {
                return Err(ModelError::Cancelled);
            };
            let id = self.next_id;
            self.next_id += 1;
            let mut series = Series {
                id,
                horizon: request.horizon,
                samples: options.samples,
                sampling: options.sampling,
                stream: request.stream,
                stats,
                context_used: plan.context,
                context,
                stamps,
                root,
                root_hidden,
                wave: plan.wave,
                step: 0,
                active: Vec::new(),
                memory: PathBatch::empty(),
                finished: Vec::new(),
                failed: None,
            };
            series.open_wave(network);
            self.series.push(series);
            Ok(id)
        });
        Ok(admitted.collect())
    }

    /// Decodes one bar of every path in flight.
    ///
    /// # Errors
    /// As for [`Batch::steps`].
    pub fn step(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        self.steps(1, interrupt).map(drop)
    }

    /// Decodes up to `most` bars of every path in flight, none after the first series or wave of paths is complete; returns
    /// how many. Threads that decode several bars between two meetings are faster than those that meet for each.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] or a backend error; the batch is then of no use. A series' own failure is kept for
    /// [`Batch::take_finished`].
    pub fn steps(&mut self, most: usize, interrupt: &dyn Interrupt) -> Result<usize> {
        self.steps_with(most, interrupt, &|series: &Series, path, step, part, logits| {
            series.draw(path, step, part, logits)
        })
    }

    /// [`Batch::steps`] with another way to choose tokens: `choose(series, path, step, part, logits)`.
    pub(super) fn steps_with<C>(
        &mut self,
        most: usize,
        interrupt: &dyn Interrupt,
        choose: &C,
    ) -> Result<usize>
    where
        C: Fn(&Series, usize, usize, Part, &[f32]) -> Option<u16> + Sync,
    {
        steps(self.model, &mut self.series, most, interrupt, choose)
    }

    /// Removes and decodes the series that are complete, several together.
    pub fn take_finished(&mut self, interrupt: &dyn Interrupt) -> Result<Vec<(SeriesId, Result<Finished>)>> {
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for mut series in self.series.extract_if(.., |series| series.complete()) {
            match series.failed.take() {
                Some(error) => failed.push((series.id, Err(error))),
                None => done.push(series),
            }
        }
        let mut values = Vec::with_capacity(done.len());
        let mut rest = done.as_slice();
        while !rest.is_empty() {
            let mut rows = 0;
            let fitting = rest.iter().take_while(|series| {
                rows += self.window(series).len();
                rows <= DECODE_ROWS
            });
            let (chunk, later) = rest.split_at(fitting.count().max(1));
            values.extend(self.decode(chunk, interrupt)?);
            rest = later;
        }
        let finished =
            done.into_iter().zip(values).map(|(series, values)| (series.id, Ok(Finished { series, values })));
        Ok(failed.into_iter().chain(finished).collect())
    }

    /// The tokens of a series' context that its bars are decoded after.
    fn window<'s>(&self, series: &'s Series) -> &'s [Token] {
        let start = (series.context.len() + series.horizon).saturating_sub(self.model.max_context);
        &series.context[start..]
    }

    /// Normalised values of the forecast bars, [path][step][channel] for each series.
    fn decode(&self, series: &[Series], interrupt: &dyn Interrupt) -> Result<Vec<Vec<f32>>> {
        let paths: Vec<(&[Token], &[Vec<Token>])> =
            series.iter().map(|series| (self.window(series), series.finished.as_slice())).collect();
        let decoded = self.model.network.decode(&paths, interrupt)?;
        let mut decoded = decoded.into_iter();
        let values = |series: &Series| -> Vec<f32> {
            decoded.by_ref().take(series.samples * series.horizon * CHANNELS).collect()
        };
        Ok(series.iter().map(values).collect())
    }
}

impl Finished {
    /// The paths in the units of the context, each bar coherent.
    ///
    /// # Errors
    /// [`ModelError::NonFinite`] naming the first step that is not a number.
    pub fn into_paths(self) -> Result<BarPaths> {
        let Self { series, values } = self;
        let horizon = series.horizon;
        let mut bars = Vec::with_capacity(values.len() / CHANNELS);
        for (i, row) in values.chunks_exact(CHANNELS).enumerate() {
            let mut bar = series.stats.denormalise(row);
            if !bar.iter().all(|v| v.is_finite()) {
                return Err(ModelError::NonFinite { step: i % horizon + 1 });
            }
            cohere(&mut bar);
            bars.push(bar);
        }
        Ok(BarPaths { horizon, bars, context_used: series.context_used })
    }
}

/// How a request is run.
pub struct Plan {
    /// Newest bars used.
    pub context: usize,
    /// Paths decoded together.
    pub wave: usize,
    /// Bytes the series takes while in flight.
    pub bytes: u64,
}

impl Kronos {
    /// Checks a request and decides how much of its context and how many paths at a time to use.
    pub fn plan(&self, request: &BarRequest, options: &BarOptions) -> Result<Plan> {
        let BarRequest { bars, stamps, horizon, .. } = request;
        let reject = |name, expected: &str, got: usize| {
            Err(ModelError::InvalidParameter { name, expected: expected.into(), got: got.to_string() })
        };
        if *horizon == 0 {
            return reject("horizon", "at least 1", 0);
        }
        if options.samples == 0 || u32::try_from(options.samples).is_err() {
            return reject("samples", "at least 1", options.samples);
        }
        if bars.is_empty() {
            return Err(ModelError::ContextTooShort { needed: 1, got: 0 });
        }
        if *horizon > self.max_context {
            return Err(ModelError::HorizonTooLong { horizon: *horizon, max_context: self.max_context });
        }
        if stamps.len() != bars.len() + horizon {
            return Err(ModelError::ShapeMismatch {
                what: "stamps",
                got: stamps.len(),
                expected: bars.len() + horizon,
            });
        }
        if let Some(index) = bars.iter().position(|bar| !bar.iter().all(|v| v.abs() <= LARGEST)) {
            return Err(ModelError::MissingValue { what: "a bar's value", index });
        }
        for (index, stamp) in stamps.iter().enumerate() {
            let fields = [stamp.minute, stamp.hour, stamp.weekday, stamp.day, stamp.month];
            let limits = super::config::CALENDAR_TABLES.map(|(_, rows)| rows);
            if fields.iter().zip(limits).any(|(&field, rows)| usize::from(field) >= rows) {
                return Err(ModelError::MissingValue { what: "a calendar field", index });
            }
        }
        let context = match options.window {
            Window::Shorten => bars.len().min(self.max_context - horizon + 1),
            Window::Slide => bars.len(),
        };
        let kept = context.min(self.max_context);
        let decoder = |positions| self.network.decoder_cache_bytes(positions);
        // Sixteen more, because a path copies the unfinished block of its context.
        let mut per_path = self.network.cache_bytes(horizon + 16) + decoder(horizon + 16);
        if kept + horizon > self.max_context + 1 {
            per_path = per_path.max(self.network.cache_bytes(self.max_context));
        }
        let shared = self.network.cache_bytes(kept) + decoder(kept);
        let room = options.memory_limit.saturating_sub(shared) / per_path.max(1);
        if room == 0 {
            let needed = shared + per_path;
            return Err(ModelError::MemoryLimit {
                what: "one sample path",
                needed,
                limit: options.memory_limit,
            });
        }
        let wave = options.samples.min(usize::try_from(room).unwrap_or(usize::MAX));
        Ok(Plan { context, wave, bytes: shared + wave as u64 * per_path })
    }
}
