//! Decode steps of the series of a batch.

use super::Kronos;
use super::network::{PathBatch, Strand};
use super::series::{Part, Series};
use super::spread::{cut, each};
use super::tokenizer::Token;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::cpu::threads;
use crate::layers::tensor::{matrix, with_values};
use candle_core::Tensor;
use rayon::prelude::*;

/// Neighbouring paths of one series, computed together.
struct Share<'s> {
    /// Place of the series in the batch.
    index: usize,
    series: &'s Series,
    /// Index of the first of them among all paths of the series.
    first: usize,
    paths: &'s mut [Vec<Token>],
    memory: Strand<'s>,
    /// Steps done of the current wave.
    step: usize,
    failed: bool,
}

impl<'s> Share<'s> {
    /// Takes the first `paths` off.
    fn split(&mut self, paths: usize) -> Self {
        let (first, rest) = std::mem::take(&mut self.paths).split_at_mut(paths);
        self.paths = rest;
        self.first += paths;
        let Self { index, series, step, failed, .. } = *self;
        Self {
            index,
            series,
            first: self.first - paths,
            paths: first,
            memory: self.memory.take(paths),
            step,
            failed,
        }
    }

    /// Length of the window the next bar is predicted from, before it is cut to the model's.
    fn length(&self) -> usize {
        self.series.context.len() + self.step
    }
}

/// Decodes up to `most` bars of every path of `series`, none beyond the first wave that is complete; `choose(series, path,
/// step, part, logits)` picks the tokens. Returns how many.
///
/// # Errors
/// [`ModelError::Cancelled`] or a backend error.
pub(super) fn steps<C>(
    model: &Kronos,
    series: &mut [Series],
    most: usize,
    interrupt: &dyn Interrupt,
    choose: &C,
) -> Result<usize>
where
    C: Fn(&Series, usize, usize, Part, &[f32]) -> Option<u16> + Sync,
{
    let left = series.iter().map(|series| series.horizon - series.step).min().unwrap_or(0);
    let count = left.min(most);
    let mut waves: Vec<(Vec<Vec<Token>>, PathBatch)> = series
        .iter_mut()
        .map(|series| {
            (std::mem::take(&mut series.active), std::mem::replace(&mut series.memory, PathBatch::empty()))
        })
        .collect();
    let failed = run(model, series, &mut waves, count, interrupt, choose)?;
    for (series, (active, memory)) in series.iter_mut().zip(waves) {
        (series.active, series.memory) = (active, memory);
        series.step += count;
    }
    // The earliest step of any path comes last.
    for (step, s) in failed.into_iter().rev() {
        series[s].failed = Some(ModelError::NonFinite { step });
    }
    for series in series.iter_mut().filter(|series| series.step == series.horizon && series.failed.is_none())
    {
        series.finished.append(&mut series.active);
        if !series.complete() {
            series.open_wave(&model.network);
        }
    }
    Ok(count)
}

/// Runs `count` steps of the waves, spread over the threads; returns at which step which series failed, in order.
fn run<C>(
    model: &Kronos,
    series: &[Series],
    waves: &mut [(Vec<Vec<Token>>, PathBatch)],
    count: usize,
    interrupt: &dyn Interrupt,
    choose: &C,
) -> Result<Vec<(usize, usize)>>
where
    C: Fn(&Series, usize, usize, Part, &[f32]) -> Option<u16> + Sync,
{
    let paths: usize = waves.iter().map(|(active, _)| active.len()).sum();
    let one_each = vec![1; paths];
    let mut runs = cut(&one_each, threads::available());
    if !runs.first().is_some_and(|run| model.network.goes_apart(run.len())) {
        runs = cut(&one_each, 1);
    }
    let parts = shares(series, waves, runs.into_iter().map(|run| run.len()));
    let failed = each(parts, |mut shares| {
        let mut failed = Vec::new();
        for _ in 0..count {
            step(model, &mut shares, interrupt, choose)?;
            failed.extend(shares.extract_if(.., |share| share.failed).map(|share| (share.step, share.index)));
            if shares.is_empty() {
                break;
            }
        }
        Ok(failed)
    })?;
    let mut failed = failed.concat();
    failed.sort_unstable();
    Ok(failed)
}

/// Deals the paths of the waves out, so many to each part.
fn shares<'s>(
    series: &'s [Series],
    waves: &'s mut [(Vec<Vec<Token>>, PathBatch)],
    parts: impl Iterator<Item = usize>,
) -> Vec<Vec<Share<'s>>> {
    let mut waves = series.iter().zip(waves).enumerate().map(|(index, (series, (active, memory)))| Share {
        index,
        series,
        first: series.finished.len(),
        paths: active,
        memory: memory.strand(),
        step: series.step,
        failed: false,
    });
    let mut rest = waves.next();
    let deal = |mut wanted: usize| {
        let mut part = Vec::new();
        while let Some(mut share) = rest.take() {
            let own = wanted.min(share.paths.len());
            wanted -= own;
            if own < share.paths.len() {
                if own > 0 {
                    part.push(share.split(own));
                }
                rest = Some(share);
                break;
            }
            part.push(share);
            rest = waves.next();
        }
        part
    };
    parts.map(deal).collect()
}

/// Decodes one bar of every path of the shares.
fn step<C>(model: &Kronos, shares: &mut [Share<'_>], interrupt: &dyn Interrupt, choose: &C) -> Result<()>
where
    C: Fn(&Series, usize, usize, Part, &[f32]) -> Option<u16> + Sync,
{
    let hidden = hidden_rows(model, shares, interrupt)?;
    interrupt.check()?;
    let network = &model.network;
    let (s1, s2) = {
        let shares = &*shares;
        let rows: Vec<(&Share<'_>, usize)> =
            shares.iter().flat_map(|share| (0..share.paths.len()).map(move |path| (share, path))).collect();
        let pick = |logits: &Tensor, part: Part| -> Result<Vec<Option<u16>>> {
            let vocabulary = logits.dim(1)?;
            let one = |(&(share, path), logits): (&(&Share<'_>, usize), &[f32])| {
                choose(share.series, share.first + path, share.step, part, logits)
            };
            Ok(with_values(logits, |logits| {
                if threads::available() == 1 {
                    rows.iter().zip(logits.chunks(vocabulary)).map(one).collect()
                } else {
                    rows.par_iter().zip(logits.par_chunks(vocabulary)).with_min_len(8).map(one).collect()
                }
            })?)
        };
        let s1 = pick(&network.s1_logits(&hidden)?, Part::S1)?;
        let s1_or_zero: Vec<u16> = s1.iter().map(|s1| s1.unwrap_or(0)).collect();
        let strands: Vec<&Strand<'_>> = shares.iter().map(|share| &share.memory).collect();
        let s2 = pick(&network.s2_logits(&hidden, &s1_or_zero, &strands)?, Part::S2)?;
        (s1, s2)
    };
    let mut drawn = s1.into_iter().zip(s2);
    for share in shares {
        share.step += 1;
        for (path, token) in share.paths.iter_mut().zip(&mut drawn) {
            match token {
                (Some(s1), Some(s2)) => path.push(Token { s1, s2 }),
                _ => share.failed = true,
            }
        }
    }
    Ok(())
}

/// The hidden row each path's next token is predicted from, [rows, width].
fn hidden_rows(model: &Kronos, shares: &mut [Share<'_>], interrupt: &dyn Interrupt) -> Result<Tensor> {
    let window = model.max_context;
    let network = &model.network;
    let width = network.width();
    let mut tokens = Vec::new();
    let mut stamps = Vec::new();
    let mut waves = Vec::new();
    for share in &mut *shares {
        if share.step == 0 || share.length() > window {
            continue;
        }
        let stamp = share.series.stamps[share.length() - 1];
        tokens.extend(share.paths.iter().filter_map(|path| path.last()));
        stamps.resize(tokens.len(), stamp);
        waves.push(&mut share.memory);
    }
    let cached = if tokens.is_empty() {
        Vec::new()
    } else {
        with_values(&network.advance(&tokens, &stamps, waves, interrupt)?, <[f32]>::to_vec)?
    };
    let mut cached = cached.chunks_exact(width);
    let mut hidden = Vec::with_capacity(shares.iter().map(|share| share.paths.len()).sum::<usize>() * width);
    for share in shares {
        if share.step == 0 {
            share.paths.iter().for_each(|_| hidden.extend_from_slice(&share.series.root_hidden));
        } else if share.length() <= window {
            cached.by_ref().take(share.paths.len()).for_each(|row| hidden.extend_from_slice(row));
        } else {
            // Sliding moves every position, so every hidden state changes: only recomputing the window is exact.
            let start = share.length() - window;
            let stamps = &share.series.stamps[start..start + window];
            let recent =
                |path: &Vec<Token>| share.series.context.iter().chain(path).skip(start).copied().collect();
            let windows: Vec<Vec<Token>> = share.paths.iter().map(recent).collect();
            let (memory, rows) = network.windows(&windows, stamps, interrupt)?;
            hidden.extend(rows);
            share.memory.replace(memory);
        }
    }
    Ok(matrix(hidden, width)?)
}
