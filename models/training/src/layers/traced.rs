//! Candle's operations with gradients as a backend: a network over it can be trained.

use super::{Attention, Dropout, Sequences, linear, rectify, rms_norm};
use candle_core::{Device, Tensor};
use kronos_models::Result;
use kronos_models::artifact::Tensors;
use kronos_models::layers::backend::{Activation, Backend, Held, Looking, Span};
use kronos_models::layers::cpu::cache::HeadShape;
use kronos_models::layers::linear::tensor;
use kronos_models::layers::rope::{Rope, RopeTable};
use std::ops::Range;
use std::sync::Arc;

/// The layers of this module on a device. Weights are held as the variables they are, so what is trained is what the next pass
/// computes with; nothing is multiplied in advance.
#[derive(Debug, Clone)]
pub struct Traced {
    device: Device,
}

impl Traced {
    /// On a device.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone() }
    }
}

/// The gain of a norm.
#[derive(Debug)]
pub struct Norm {
    weight: Tensor,
    eps: f32,
}

/// A linear map, and what its output goes through.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    then: Then,
}

/// What the output of a map goes through.
#[derive(Debug)]
enum Then {
    Nothing,
    Rectifier,
    /// A second map, [out, in].
    Map(Tensor),
    /// Constant bases [function, point], each on so many columns.
    Bases(Vec<(Tensor, usize)>),
}

/// The weights of an attention.
#[derive(Debug)]
pub struct Projections {
    norm: Norm,
    /// Of queries, keys and values.
    inner: [Tensor; 3],
    out: Tensor,
    shape: HeadShape,
}

/// Which rows look at which.
#[derive(Debug)]
pub struct Pattern {
    sequences: Arc<Sequences>,
    rotation: Option<(Arc<RopeTable>, Arc<[u32]>)>,
    /// The rows that look, where not all do; the others are computed and dropped.
    looking: Option<Tensor>,
}

fn bytes(x: &Tensor) -> usize {
    x.elem_count() * x.dtype().size_in_bytes()
}

impl Held for Norm {
    fn bytes(&self) -> usize {
        bytes(&self.weight)
    }
}

impl Held for Linear {
    fn bytes(&self) -> usize {
        let then = match &self.then {
            Then::Nothing | Then::Rectifier => 0,
            Then::Map(map) => bytes(map),
            Then::Bases(bases) => bases.iter().map(|(basis, _)| bytes(basis)).sum(),
        };
        bytes(&self.weight) + self.bias.as_ref().map_or(0, bytes) + then
    }
}

impl Held for Projections {
    fn bytes(&self) -> usize {
        self.norm.bytes() + self.inner.iter().map(bytes).sum::<usize>() + bytes(&self.out)
    }
}

impl Backend for Traced {
    type Norm = Norm;
    type Linear = Linear;
    type Attention = Projections;
    type Rows = Tensor;
    type Pattern = Pattern;
    type Dropout = Dropout;

    fn norm(&self, weight: &Tensor, eps: f32) -> Result<Norm> {
        Ok(Norm { weight: weight.clone(), eps })
    }

    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Linear> {
        let then = match activation {
            Activation::Identity => Then::Nothing,
            Activation::Rectified => Then::Rectifier,
        };
        Ok(Linear { weight: weight.clone(), bias: bias.cloned(), then })
    }

    fn chained(&self, first: &Tensor, second: &Tensor) -> Result<Linear> {
        Ok(Linear { weight: first.clone(), bias: None, then: Then::Map(second.clone()) })
    }

    fn spanning(&self, weight: &Tensor, bias: &Tensor, spans: &[Span<'_>]) -> Result<Linear> {
        let basis = |span: &Span<'_>| -> Result<(Tensor, usize)> {
            let values: Vec<f32> = span.functions.iter().flatten().map(|&value| value as f32).collect();
            let shape = (span.functions.len(), span.functions.first().map_or(0, Vec::len));
            Ok((Tensor::from_vec(values, shape, &self.device)?, span.columns))
        };
        let then = Then::Bases(spans.iter().map(basis).collect::<Result<_>>()?);
        Ok(Linear { weight: weight.clone(), bias: Some(bias.clone()), then })
    }

    fn attention(
        &self,
        tensors: &Tensors,
        (prefix, name): (&str, &str),
        shape: HeadShape,
        eps: f32,
    ) -> Result<Projections> {
        let part = |part: &str| tensor(tensors, &format!("{prefix}.{name}.{part}.weight")).cloned();
        Ok(Projections {
            norm: self.norm(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            inner: [part("q")?, part("k")?, part("v")?],
            out: part("o")?,
            shape,
        })
    }

    fn table(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.clone())
    }

    fn matrix(&self, values: Vec<f32>, columns: usize) -> Result<Tensor> {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        Ok(Tensor::from_vec(values, (rows, columns), &self.device)?)
    }

    fn values(x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.flatten_all()?.to_vec1()?)
    }

    fn rows(&self, rows: Vec<usize>) -> Result<Tensor> {
        let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
        let n = rows.len();
        Ok(Tensor::from_vec(rows, n, &self.device)?)
    }

    fn pattern(
        &self,
        sequences: &[Range<usize>],
        looking: Option<Looking<'_>>,
        rotation: Option<(&Rope, &[usize])>,
    ) -> Result<Pattern> {
        let members = sequences.iter().map(|range| range.clone().map(|row| row as u32).collect()).collect();
        let rotation = rotation.map(|(rope, positions)| {
            let table = rope.table(positions.iter().max().map_or(0, |last| last + 1));
            (table, positions.iter().map(|&position| position as u32).collect())
        });
        Ok(Pattern {
            sequences: Arc::new(Sequences::new(members, sequences.iter().map(Range::len).sum())?),
            rotation,
            looking: looking.map(|looking| self.rows(looking.rows.to_vec())).transpose()?,
        })
    }

    fn at(dropout: Dropout, place: u64) -> Dropout {
        dropout.at(place)
    }

    fn drop(x: Tensor, dropout: Dropout) -> Result<Tensor> {
        Ok(dropout.apply(&x)?)
    }

    fn normed(norm: &Norm, x: &Tensor) -> Result<Tensor> {
        Ok(rms_norm(x, &norm.weight, norm.eps)?)
    }

    fn product(map: &Linear, x: &Tensor) -> Result<Tensor> {
        let Linear { weight, bias, then } = map;
        Ok(match (then, bias) {
            (Then::Rectifier, Some(bias)) => rectify(&linear(x, weight, None)?, bias)?,
            (Then::Rectifier, None) => linear(x, weight, None)?.relu()?,
            (Then::Nothing, bias) => linear(x, weight, bias.as_ref())?,
            (Then::Map(map), bias) => linear(&linear(x, weight, bias.as_ref())?, map, None)?,
            (Then::Bases(bases), bias) => span(&linear(x, weight, bias.as_ref())?, bases)?,
        })
    }

    fn attend(layer: &Projections, x: &Tensor, pattern: &Pattern, dropout: Dropout) -> Result<Tensor> {
        let attention = Attention {
            shape: layer.shape,
            scale: 1.0,
            causal: false,
            rotation: pattern.rotation.clone(),
            sequences: Arc::clone(&pattern.sequences),
            dropout: dropout.at(0),
        };
        let inner = linear(&Self::normed(&layer.norm, x)?, &Tensor::cat(&layer.inner, 0)?, None)?;
        let (mut x, mut found) = (x.clone(), attention.forward(&inner)?);
        if let Some(looking) = &pattern.looking {
            (x, found) = (x.index_select(looking, 0)?, found.index_select(looking, 0)?);
        }
        let found = dropout.at(1).apply(&linear(&found, &layer.out, None)?)?;
        Ok((x + found)?)
    }

    fn gather(parts: &[&Tensor], rows: &Tensor) -> Result<Tensor> {
        Ok(match parts {
            [one] => one.index_select(rows, 0)?,
            parts => Tensor::cat(parts, 0)?.index_select(rows, 0)?,
        })
    }
}

/// Numbers [rows, functions · columns], basis after basis, as points [rows, points · columns].
fn span(theta: &Tensor, bases: &[(Tensor, usize)]) -> Result<Tensor> {
    let rows = theta.dim(0)?;
    let mut start = 0;
    let mut parts = Vec::with_capacity(bases.len());
    for (basis, columns) in bases {
        let (functions, points) = basis.dims2()?;
        let own = theta.narrow(1, start, functions * columns)?.reshape((rows, functions, *columns))?;
        let own = own.transpose(1, 2)?.contiguous()?.reshape((rows * columns, functions))?;
        let part = own.matmul(basis)?.reshape((rows, *columns, points))?.transpose(1, 2)?;
        parts.push(part.contiguous()?.reshape((rows, points * columns))?);
        start += functions * columns;
    }
    Ok(Tensor::cat(&parts, 1)?)
}
