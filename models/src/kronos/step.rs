//! One decode step of the series of a batch.

use super::Kronos;
use super::batch::{Part, Series};
use super::network::Wave;
use super::tokenizer::Token;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::cpu::threads;
use crate::layers::tensor::{matrix, with_values};
use candle_core::Tensor;
use rayon::prelude::*;

/// Decodes one bar of every path of `series`, whose tokens `choose(series, path, part, logits)` picks.
///
/// A small network takes less time for a step than threads take to meet in each of its kernels, so the series are spread
/// over the threads instead. A row's numbers are the same either way.
///
/// # Errors
/// [`ModelError::Cancelled`] or a backend error.
pub(super) fn step<C>(
    model: &Kronos,
    series: &mut [Series],
    interrupt: &dyn Interrupt,
    choose: &C,
) -> Result<()>
where
    C: Fn(&Series, usize, Part, &[f32]) -> Option<u16> + Sync,
{
    let threads = threads::available();
    if series.len() < 2 || threads == 1 || !model.network.is_small() {
        return advance(model, series, interrupt, choose);
    }
    let parts = parts(series, threads);
    parts.into_par_iter().try_for_each(|part| threads::alone(|| advance(model, part, interrupt, choose)))
}

/// Cuts `series` into at most `count` parts of about as many paths.
fn parts(series: &mut [Series], count: usize) -> Vec<&mut [Series]> {
    let paths: usize = series.iter().map(|series| series.active.len()).sum();
    let mut parts = Vec::with_capacity(count);
    let (mut rest, mut before) = (series, 0);
    for part in 1..=count {
        let mut end = 0;
        while end < rest.len() && before < paths * part / count {
            before += rest[end].active.len();
            end += 1;
        }
        let (own, later) = rest.split_at_mut(end);
        if !own.is_empty() {
            parts.push(own);
        }
        rest = later;
    }
    parts
}

/// [`step`] of series that are computed together.
fn advance<C>(model: &Kronos, series: &mut [Series], interrupt: &dyn Interrupt, choose: &C) -> Result<()>
where
    C: Fn(&Series, usize, Part, &[f32]) -> Option<u16> + Sync,
{
    if series.is_empty() {
        return Ok(());
    }
    let hidden = hidden_rows(model, series, interrupt)?;
    interrupt.check()?;
    let rows: Vec<(usize, usize)> = series
        .iter()
        .enumerate()
        .flat_map(|(s, series)| (0..series.active.len()).map(move |path| (s, path)))
        .collect();
    let network = &model.network;
    let (s1, s2) = {
        let series = &*series;
        let pick = |logits: &Tensor, part: Part| -> Result<Vec<Option<u16>>> {
            let vocabulary = logits.dim(1)?;
            let one = |(row, logits): (&(usize, usize), &[f32])| {
                let series = &series[row.0];
                choose(series, series.finished.len() + row.1, part, logits)
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
        let waves: Vec<&Wave> = series.iter().map(|series| &series.memory).collect();
        let s2 = pick(&network.s2_logits(&hidden, &s1_or_zero, &waves)?, Part::S2)?;
        (s1, s2)
    };
    for (&(s, path), token) in rows.iter().zip(s1.into_iter().zip(s2)) {
        let series = &mut series[s];
        match token {
            (Some(s1), Some(s2)) => series.active[path].push(Token { s1, s2 }),
            _ => series.failed = Some(ModelError::NonFinite { step: series.step + 1 }),
        }
    }
    for series in series {
        series.step += 1;
        if series.step == series.horizon && series.failed.is_none() {
            series.finished.append(&mut series.active);
            if !series.complete() {
                series.open_wave(network);
            }
        }
    }
    Ok(())
}

/// The hidden row each path's next token is predicted from, [rows, width].
fn hidden_rows(model: &Kronos, series: &mut [Series], interrupt: &dyn Interrupt) -> Result<Tensor> {
    let window = model.max_context;
    let network = &model.network;
    let width = network.width();
    let mut tokens = Vec::new();
    let mut stamps = Vec::new();
    let mut waves = Vec::new();
    for series in &mut *series {
        if series.step == 0 || series.length() > window {
            continue;
        }
        let stamp = series.stamps[series.length() - 1];
        tokens.extend(series.active.iter().filter_map(|path| path.last()));
        stamps.resize(tokens.len(), stamp);
        waves.push(&mut series.memory);
    }
    let cached = if tokens.is_empty() {
        Vec::new()
    } else {
        with_values(&network.advance(&tokens, &stamps, waves, interrupt)?, <[f32]>::to_vec)?
    };
    let mut cached = cached.chunks_exact(width);
    let mut hidden =
        Vec::with_capacity(series.iter().map(|series| series.active.len()).sum::<usize>() * width);
    for series in series {
        if series.step == 0 {
            series.active.iter().for_each(|_| hidden.extend_from_slice(&series.root_hidden));
        } else if series.length() <= window {
            cached.by_ref().take(series.active.len()).for_each(|row| hidden.extend_from_slice(row));
        } else {
            // Sliding moves every position, so every hidden state changes: only recomputing the window is exact.
            let start = series.length() - window;
            let stamps = &series.stamps[start..start + window];
            let recent = |path: &Vec<Token>| series.context.iter().chain(path).skip(start).copied().collect();
            let windows: Vec<Vec<Token>> = series.active.iter().map(recent).collect();
            let (memory, rows) = network.windows(&windows, stamps, interrupt)?;
            hidden.extend(rows);
            series.memory = memory;
        }
    }
    Ok(matrix(hidden, width)?)
}
