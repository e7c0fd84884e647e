//! One series of a batch between two steps.

use super::network::{Network, PathBatch, Prefix};
use super::normalise::Stats;
use super::sampling::draw;
use super::tokenizer::Token;
use crate::bars::{Sampling, Stamp};
use crate::error::ModelError;
use crate::model::SeriesId;
use crate::random::Stream;

/// Which of the two tokens of a bar a draw is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Coarse.
    S1,
    /// Fine.
    S2,
}

/// Everything about one series in flight.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) id: SeriesId,
    pub(super) horizon: usize,
    pub(super) samples: usize,
    pub(super) sampling: Sampling,
    pub(super) stream: Stream,
    pub(super) stats: Stats,
    pub(super) context_used: usize,
    /// Tokens of the newest bars of the context, at most a window of them.
    pub(super) context: Vec<Token>,
    /// Stamps of those bars and of the forecast bars.
    pub(super) stamps: Vec<Stamp>,
    pub(super) root: Prefix,
    /// The newest hidden row of the context.
    pub(super) root_hidden: Vec<f32>,
    /// Paths decoded together; the memory limit may ask for several waves.
    pub(super) wave: usize,
    /// Steps done of the current wave.
    pub(super) step: usize,
    /// Tokens of the paths of the current wave.
    pub(super) active: Vec<Vec<Token>>,
    /// What the network remembers of those paths.
    pub(super) memory: PathBatch,
    /// Tokens of finished paths.
    pub(super) finished: Vec<Vec<Token>>,
    pub(super) failed: Option<ModelError>,
}

impl Series {
    pub(super) fn open_wave(&mut self, network: &Network) {
        let paths = self.wave.min(self.samples - self.finished.len());
        self.active = vec![Vec::with_capacity(self.horizon); paths];
        self.memory = network.branch(&self.root, paths, self.horizon);
        self.step = 0;
    }

    /// Draws a token of one step of one path; `None` when the logits are not finite.
    pub(super) fn draw(&self, path: usize, step: usize, part: Part, logits: &[f32]) -> Option<u16> {
        draw(logits, &self.sampling, self.stream.uniform(path as u32, step as u32, part as u32))
    }

    pub(super) fn complete(&self) -> bool {
        self.failed.is_some() || self.finished.len() == self.samples
    }
}
