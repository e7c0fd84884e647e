//! What the batch drives: both halves of a model, by the kernels of the CPU or by candle on a device.
//!
//! Tokens, hidden rows and logits are on the host on this side; caches are where the weights are.

use super::accelerated::{self, Halves};
use super::predictor::{ContextState, PathState, Predictor};
use super::spread::{each, evenly};
use super::tokenizer::{Token, Tokenizer};
use crate::bars::{CHANNELS, Stamp};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::block::SequenceContext;
use crate::layers::cpu::cache::KvCache;
use crate::layers::tensor::with_values;
use candle_core::{IndexOp, Tensor};
use std::ops::Range;

/// Rows decoded in one pass of the tokenizer's decoder; more would only cost memory.
const DECODE_ROWS: usize = 2048;

/// Rows of windows that a device computes anew in one pass.
const WINDOW_ROWS: usize = 8192;

/// Up to so many bytes of weights, threads with rows of their own outran threads that meet in each kernel: measured with
/// steps of 2.6 and 12.6 MB on two cores.
const SMALL_STEP: usize = 16 << 20;

/// From so many rows on, arithmetic hides that each thread reads all of the weights.
const AMPLE_ROWS: usize = 128;

/// Both halves, and what computes them.
#[derive(Debug)]
pub(super) enum Network {
    Kernels { tokenizer: Box<Tokenizer>, predictor: Box<Predictor> },
    Accelerated(Box<Halves>),
}

/// A context that paths continue.
#[derive(Debug)]
pub(super) enum Prefix {
    Kernels(ContextState),
    Accelerated(accelerated::Prefix),
}

/// What is remembered of the paths of a series.
#[derive(Debug)]
pub(super) enum PathBatch {
    Kernels(Vec<PathState>),
    /// Paths side by side; several parts where not all fit into one pass.
    Accelerated(Vec<accelerated::PathBatch>),
}

impl PathBatch {
    /// A wave without paths.
    pub fn empty() -> Self {
        Self::Kernels(Vec::new())
    }

    /// All of its paths.
    pub fn strand(&mut self) -> Strand<'_> {
        match self {
            Self::Kernels(states) => Strand::Kernels(states),
            Self::Accelerated(parts) => Strand::Accelerated(parts),
        }
    }
}

/// Some neighbouring paths of a wave.
#[derive(Debug)]
pub(super) enum Strand<'w> {
    Kernels(&'w mut [PathState]),
    /// Always all of them: what lies on a device side by side is not cut.
    Accelerated(&'w mut Vec<accelerated::PathBatch>),
}

impl<'w> Strand<'w> {
    /// Takes the first `paths` off.
    pub fn take(&mut self, paths: usize) -> Strand<'w> {
        match std::mem::replace(self, Strand::Kernels(&mut [])) {
            Strand::Kernels(states) => {
                let (first, rest) = states.split_at_mut(paths.min(states.len()));
                *self = Strand::Kernels(rest);
                Strand::Kernels(first)
            }
            all @ Strand::Accelerated(_) => all,
        }
    }

    /// Forgets what the paths remember for what they remember instead.
    pub fn replace(&mut self, wave: PathBatch) {
        match (self, wave) {
            (Self::Kernels(states), PathBatch::Kernels(new)) => {
                states.iter_mut().zip(new).for_each(|(state, new)| *state = new);
            }
            (Self::Accelerated(parts), PathBatch::Accelerated(new)) => **parts = new,
            // A network makes waves of its own kind only.
            (Self::Kernels(_), PathBatch::Accelerated(_)) | (Self::Accelerated(_), PathBatch::Kernels(_)) => {
            }
        }
    }

    fn states(&self) -> &[PathState] {
        if let Self::Kernels(states) = self { states } else { &[] }
    }

    fn states_mut(&mut self) -> &mut [PathState] {
        if let Self::Kernels(states) = self { states } else { &mut [] }
    }

    fn parts(&self) -> &[accelerated::PathBatch] {
        if let Self::Accelerated(parts) = self { parts } else { &[] }
    }

    fn parts_mut(&mut self) -> &mut [accelerated::PathBatch] {
        if let Self::Accelerated(parts) = self { parts } else { &mut [] }
    }
}

impl Network {
    /// Encodes the normalised bars of several series together: `rows[s]` bars of series s, series after series.
    pub fn encode_all(
        &self,
        bars: &[[f32; CHANNELS]],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Token>> {
        match self {
            Self::Kernels { tokenizer, .. } => {
                let encoded = self.apart(rows, |series, positions| {
                    tokenizer.encode_all(&bars[positions], &rows[series], interrupt)
                })?;
                Ok(encoded.concat())
            }
            Self::Accelerated(halves) => halves.tokenizer.encode_all(bars, rows, interrupt),
        }
    }

    /// Runs contexts of `rows[s]` bars, at least one; returns what their paths continue and their newest hidden rows.
    pub fn contexts(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<(Prefix, Vec<f32>)>> {
        match self {
            Self::Kernels { predictor, .. } => {
                let run = |series: Range<usize>, positions: Range<usize>| {
                    let rows = &rows[series];
                    let mut states: Vec<PathState> = rows.iter().map(|_| predictor.sequence()).collect();
                    let mut each: Vec<&mut PathState> = states.iter_mut().collect();
                    let (tokens, stamps) = (&tokens[positions.clone()], &stamps[positions]);
                    let hidden = predictor.hidden(tokens, stamps, &mut each, rows, interrupt)?;
                    let newest = with_values(&hidden, |hidden| {
                        let width = hidden.len() / tokens.len();
                        let ends = rows.iter().scan(0, |end, n| {
                            *end += n;
                            Some(*end)
                        });
                        ends.map(|end| hidden[(end - 1) * width..end * width].to_vec()).collect::<Vec<_>>()
                    })?;
                    let roots = states.into_iter().map(|state| Prefix::Kernels(state.freeze()));
                    Ok(roots.zip(newest).collect::<Vec<_>>())
                };
                Ok(self.apart(rows, run)?.into_iter().flatten().collect())
            }
            Self::Accelerated(halves) => {
                let (roots, hidden) = halves.predictor.contexts(tokens, stamps, rows, interrupt)?;
                let width = hidden.dim(1)?;
                let hidden = with_values(&hidden, |hidden| {
                    hidden.chunks_exact(width).map(<[f32]>::to_vec).collect::<Vec<_>>()
                })?;
                Ok(roots.into_iter().map(Prefix::Accelerated).zip(hidden).collect())
            }
        }
    }

    /// Runs `work(sequences, positions)` for sequences of `rows[s]` positions, one after the other, in one or several parts.
    fn apart<R: Send>(
        &self,
        rows: &[usize],
        work: impl Fn(Range<usize>, Range<usize>) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let run = |series: Range<usize>| {
            let start: usize = rows[..series.start].iter().sum();
            let positions = start..start + rows[series.clone()].iter().sum::<usize>();
            work(series, positions)
        };
        each(evenly(rows, |rows| self.goes_apart(rows)), run)
    }

    /// Paths that continue a context with room for `positions` more.
    pub fn branch(&self, root: &Prefix, paths: usize, positions: usize) -> PathBatch {
        match (self, root) {
            (Self::Accelerated(halves), Prefix::Accelerated(root)) => {
                PathBatch::Accelerated(vec![halves.predictor.branch(root, paths, positions)])
            }
            (_, Prefix::Kernels(root)) => {
                PathBatch::Kernels((0..paths).map(|_| root.branch(positions)).collect())
            }
            (Self::Kernels { .. }, Prefix::Accelerated(_)) => PathBatch::empty(),
        }
    }

    /// Runs one new bar of every path of the waves; returns their hidden rows, [paths, width].
    pub fn advance(
        &self,
        tokens: &[Token],
        stamps: &[Stamp],
        waves: Vec<&mut Strand<'_>>,
        interrupt: &dyn Interrupt,
    ) -> Result<Tensor> {
        match self {
            Self::Kernels { predictor, .. } => {
                let mut states: Vec<&mut PathState> =
                    waves.into_iter().flat_map(Strand::states_mut).collect();
                predictor.hidden(tokens, stamps, &mut states, &vec![1; tokens.len()], interrupt)
            }
            Self::Accelerated(halves) => {
                let mut parts: Vec<_> = waves.into_iter().flat_map(Strand::parts_mut).collect();
                let rows = vec![1; parts.len()];
                halves.predictor.advance(tokens, stamps, &mut parts, &rows, interrupt)
            }
        }
    }

    /// Runs whole windows of several paths anew, all under the same stamps; returns their newest hidden rows.
    pub fn windows(
        &self,
        windows: &[Vec<Token>],
        stamps: &[Stamp],
        interrupt: &dyn Interrupt,
    ) -> Result<(PathBatch, Vec<f32>)> {
        let mut hidden = Vec::new();
        match self {
            Self::Kernels { predictor, .. } => {
                let mut states = Vec::with_capacity(windows.len());
                for tokens in windows {
                    let mut state = predictor.sequence();
                    let rows =
                        predictor.hidden(tokens, stamps, &mut [&mut state], &[tokens.len()], interrupt)?;
                    hidden.extend(rows.i(rows.dim(0)? - 1)?.to_vec1::<f32>()?);
                    states.push(state);
                }
                Ok((PathBatch::Kernels(states), hidden))
            }
            Self::Accelerated(halves) => {
                let mut parts = Vec::new();
                for windows in windows.chunks((WINDOW_ROWS / stamps.len().max(1)).max(1)) {
                    let predictor = &halves.predictor;
                    let (part, rows) =
                        predictor.windows(&windows.concat(), stamps, windows.len(), interrupt)?;
                    with_values(&rows, |rows| hidden.extend_from_slice(rows))?;
                    parts.push(part);
                }
                Ok((PathBatch::Accelerated(parts), hidden))
            }
        }
    }

    /// Logits of the coarse token for hidden rows: [rows, width] → [rows, 2^s1_bits].
    pub fn s1_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match self {
            Self::Kernels { predictor, .. } => predictor.s1_logits(hidden),
            Self::Accelerated(halves) => halves.predictor.s1_logits(hidden),
        }
    }

    /// Logits of the fine token, given the coarse one just drawn for each path: [rows, width] → [rows, 2^s2_bits].
    pub fn s2_logits(&self, hidden: &Tensor, s1: &[u16], waves: &[&Strand<'_>]) -> Result<Tensor> {
        match self {
            Self::Kernels { predictor, .. } => {
                let states = waves.iter().flat_map(|wave| wave.states());
                let dependency: Vec<&KvCache> = states.map(PathState::dependency).collect();
                predictor.s2_logits(hidden, s1, &dependency)
            }
            Self::Accelerated(halves) => {
                halves.predictor.s2_logits(hidden, s1, waves.iter().flat_map(|wave| wave.parts()))
            }
        }
    }

    /// Decodes the paths that continue the windows of several series; returns their rows series after series, path after
    /// path, [Σ tokens · channels].
    pub fn decode(
        &self,
        series: &[(&[Token], &[Vec<Token>])],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<f32>> {
        let tokenizer = match self {
            Self::Kernels { tokenizer, .. } => tokenizer,
            Self::Accelerated(halves) => return halves.tokenizer.decode(series, interrupt),
        };
        let windows: Vec<&[Token]> = series.iter().map(|(window, _)| *window).collect();
        let rows: Vec<usize> = windows.iter().map(|window| window.len()).collect();
        let begin = |series: Range<usize>, _| tokenizer.decode_contexts(&windows[series], interrupt);
        let contexts = self.apart(&rows, begin)?.concat();
        let paths: Vec<(&SequenceContext, &[Token])> = series
            .iter()
            .zip(&contexts)
            .flat_map(|((_, paths), context)| paths.iter().map(move |path| (context, path.as_slice())))
            .collect();
        let mut decoded = Vec::with_capacity(paths.iter().map(|(_, path)| path.len() * CHANNELS).sum());
        let mut rest = paths.as_slice();
        while !rest.is_empty() {
            let mut rows = 0;
            let fitting = rest.iter().take_while(|(_, path)| {
                rows += path.len();
                rows <= DECODE_ROWS
            });
            let (chunk, later) = rest.split_at(fitting.count().max(1));
            let rows: Vec<usize> = chunk.iter().map(|(_, path)| path.len()).collect();
            let part = |paths: Range<usize>, _| tokenizer.decode_paths(&chunk[paths], interrupt);
            decoded.extend(self.apart(&rows, part)?.into_iter().flatten());
            rest = later;
        }
        Ok(decoded)
    }

    /// Decodes one whole window; returns its rows, [tokens · channels].
    pub fn decode_window(&self, tokens: &[Token], interrupt: &dyn Interrupt) -> Result<Vec<f32>> {
        match self {
            Self::Kernels { tokenizer, .. } => tokenizer.decode_window(tokens, interrupt),
            Self::Accelerated(halves) => halves.tokenizer.decode(&[(&[], &[tokens.to_vec()])], interrupt),
        }
    }

    /// Whether threads do better with rows of their own than together in each kernel, the least of them having `rows`.
    pub fn goes_apart(&self, rows: usize) -> bool {
        match self {
            Self::Kernels { predictor, .. } => rows >= AMPLE_ROWS || predictor.step_bytes() <= SMALL_STEP,
            Self::Accelerated(_) => false,
        }
    }

    /// Values of a hidden row.
    pub fn width(&self) -> usize {
        match self {
            Self::Kernels { predictor, .. } => predictor.config().d_model,
            Self::Accelerated(halves) => halves.predictor.config().d_model,
        }
    }

    /// Bytes of the predictor's cache that `positions` positions of one path take.
    pub fn cache_bytes(&self, positions: usize) -> u64 {
        match self {
            Self::Kernels { predictor, .. } => predictor.cache_bytes(positions),
            Self::Accelerated(halves) => halves.predictor.cache_bytes(positions),
        }
    }

    /// Bytes of cache that decoding `positions` positions of one path takes.
    pub fn decoder_cache_bytes(&self, positions: usize) -> u64 {
        match self {
            Self::Kernels { tokenizer, .. } => tokenizer.decoder_cache_bytes(positions),
            Self::Accelerated(halves) => halves.tokenizer.decoder_cache_bytes(positions),
        }
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Kernels { tokenizer, predictor } => tokenizer.bytes() + predictor.bytes(),
            Self::Accelerated(halves) => halves.tokenizer.bytes() + halves.predictor.bytes(),
        }
    }
}
