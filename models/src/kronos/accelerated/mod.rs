//! Both halves of a Kronos model in candle's own operations, for GPUs; see [`crate::layers::accelerated`].

mod predictor;
mod tokenizer;

use super::config::{PredictorConfig, TokenizerConfig};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::layers::accelerated::Place;
pub(super) use predictor::{PathBatch, Predictor, Prefix};
pub(super) use tokenizer::Tokenizer;

/// A tokenizer and a predictor, placed.
#[derive(Debug)]
pub(super) struct Halves {
    pub tokenizer: Tokenizer,
    pub predictor: Predictor,
}

impl Halves {
    /// Places the tensors that both configurations list.
    ///
    /// The tokenizer is small and a sign makes a bit of a token of it: it computes in float32 whatever the place says.
    pub fn load(
        place: &Place,
        tokenizer: (&TokenizerConfig, &Tensors),
        predictor: (&PredictorConfig, &Tensors),
    ) -> Result<Self> {
        Ok(Self {
            tokenizer: Tokenizer::load(&place.exactly(), tokenizer.0, tokenizer.1)?,
            predictor: Predictor::load(place, predictor.0, predictor.1)?,
        })
    }
}
