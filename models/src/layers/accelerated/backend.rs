//! A place as a backend.

use super::{Linear, Pattern, Place, RmsNorm, fetch};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::layers::backend::{
    Activation, Backend, CrossAttention, DistanceBias, Held, Looking, Span, folded,
};
use crate::layers::cpu::cache::HeadShape;
use crate::layers::linear::tensor;
use crate::layers::rope::Rope;
use candle_core::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Attention with its norm in front and its projections, keys and values in one map.
#[derive(Debug)]
pub struct Attention {
    norm: RmsNorm,
    query: Linear,
    key_value: Linear,
    out: Linear,
    shape: HeadShape,
}

impl Held for RmsNorm {
    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Held for Linear {
    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Held for Attention {
    fn bytes(&self) -> usize {
        self.norm.bytes() + self.query.bytes() + self.key_value.bytes() + self.out.bytes()
    }
}

impl Backend for Place {
    type Norm = RmsNorm;
    type Linear = Linear;
    type Attention = Attention;
    type Rows = Tensor;
    type Pattern = Pattern;
    type Dropout = ();

    fn norm(&self, weight: &Tensor, eps: f32) -> Result<RmsNorm> {
        RmsNorm::new(self, weight, eps)
    }

    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Linear> {
        Ok(Linear { activation, ..Linear::new(self, weight, bias)? })
    }

    /// The product is one of constants, in float32 whatever the precision of the rest.
    fn chained(&self, first: &Tensor, second: &Tensor) -> Result<Linear> {
        Linear::new(self, &self.exact(second)?.matmul(&self.exact(first)?)?, None)
    }

    fn spanning(&self, weight: &Tensor, bias: &Tensor, spans: &[Span<'_>]) -> Result<Linear> {
        let (weight, bias) = folded(weight, bias, spans)?;
        Linear::new(self, &weight, Some(&bias))
    }

    fn attention(
        &self,
        tensors: &Tensors,
        (prefix, name): (&str, &str),
        shape: HeadShape,
        eps: f32,
    ) -> Result<Attention> {
        let part = |part: &str| format!("{prefix}.{name}.{part}");
        Ok(Attention {
            norm: RmsNorm::new(self, tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            query: Linear::load(self, tensors, &part("q"))?,
            key_value: Linear::stacked(self, tensors, &[part("k"), part("v")])?,
            out: Linear::load(self, tensors, &part("o"))?,
            shape,
        })
    }

    fn table(&self, rows: &Tensor) -> Result<Tensor> {
        self.exact(rows)
    }

    fn matrix(&self, values: Vec<f32>, columns: usize) -> Result<Tensor> {
        self.matrix(values, columns)
    }

    fn values(x: &Tensor) -> Result<Vec<f32>> {
        fetch(x)
    }

    fn rows(&self, rows: Vec<usize>) -> Result<Tensor> {
        self.rows(rows.into_iter().map(|row| row as u32).collect())
    }

    fn pattern(
        &self,
        sequences: &[Range<usize>],
        looking: Option<Looking<'_>>,
        rotation: Option<(&Rope, &[usize])>,
    ) -> Result<Pattern> {
        Pattern::whole(self, sequences, looking, rotation)
    }

    fn normed(norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        norm.forward(x)
    }

    fn product(map: &Linear, x: &Tensor) -> Result<Tensor> {
        map.forward(x)
    }

    fn attend(layer: &Attention, x: &Tensor, pattern: &Pattern, (): ()) -> Result<Tensor> {
        let own = match &pattern.looking {
            Some(rows) => x.index_select(rows, 0)?,
            None => x.clone(),
        };
        let seen = layer.norm.forward(x)?;
        layer.find(&own, &seen, pattern)
    }

    fn gather(parts: &[&Tensor], rows: &Tensor) -> Result<Tensor> {
        Ok(match parts {
            [one] => one.index_select(rows, 0)?,
            parts => Tensor::cat(parts, 0)?.index_select(rows, 0)?,
        })
    }
}

impl CrossAttention for Place {
    fn relative(
        &self,
        sequences: &[Range<usize>],
        bias: &Arc<DistanceBias>,
        places: &[i64],
    ) -> Result<Pattern> {
        Pattern::relative(self, sequences, bias, places)
    }

    fn across(&self, sequences: &[Range<usize>]) -> Result<Pattern> {
        Pattern::across(self, sequences)
    }

    fn attend_across(layer: &Attention, x: &Tensor, seen: &Tensor, pattern: &Pattern) -> Result<Tensor> {
        layer.find(x, seen, pattern)
    }
}

impl Attention {
    /// Rows `x` with what they find in rows `seen`, which are normed, added.
    fn find(&self, x: &Tensor, seen: &Tensor, pattern: &Pattern) -> Result<Tensor> {
        let queries = self.query.forward(&self.norm.forward(x)?)?;
        let found = pattern.find(&queries, &self.key_value.forward(seen)?, self.shape)?;
        Ok((x + self.out.forward(&found)?)?)
    }
}
