//! The network of [`kronos_models::chronos2::network`], differentiable.

use super::{Chronos2Training, Example};
use crate::layers::{Attention, Dropout, Initial, Parameters, Sequences, linear, rms_norm};
use candle_core::{Device, Tensor};
use kronos_models::artifact::{TensorSpec, Tensors};
use kronos_models::chronos2::Group;
use kronos_models::chronos2::config::{Config, FEED_FORWARD, SELF_ATTENTION};
use kronos_models::chronos2::layout::{Layout, Patching};
use kronos_models::error::{ModelError, Result};
use kronos_models::layers::rope::Rope;
use std::sync::Arc;

/// A Chronos-2 model whose weights can change.
#[derive(Debug, Clone)]
pub struct TrainableChronos2 {
    config: Chronos2Training,
    parameters: Parameters,
    patching: Patching,
}

/// Dropout at the places of one pass.
#[derive(Clone, Copy)]
struct Places(Dropout);

impl Places {
    fn drop(self, x: Tensor, place: u64) -> Result<Tensor> {
        Ok(self.0.at(place).apply(&x)?)
    }
}

impl TrainableChronos2 {
    /// Random weights by the reference's rule.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn initialise(config: &Chronos2Training, key: u64, device: &Device) -> Result<Self> {
        let initial = |spec: &TensorSpec| initial(spec, config);
        let parameters = Parameters::initialise(&config.config.tensors()?, initial, key, device)?;
        Self::of(config, parameters)
    }

    /// The weights of a file, read by the list of [`Config::tensors`].
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn from_tensors(config: &Chronos2Training, tensors: &Tensors, device: &Device) -> Result<Self> {
        Self::of(config, Parameters::from_tensors(tensors, device)?)
    }

    fn of(config: &Chronos2Training, parameters: Parameters) -> Result<Self> {
        config.config.validate()?;
        let size = config.config.patch();
        let patching = Patching { size, time_scale: config.config.time_encoding_scale() as f32 };
        Ok(Self { config: config.clone(), parameters, patching })
    }

    /// The configuration.
    pub fn config(&self) -> &Chronos2Training {
        &self.config
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn map(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let weight = self.parameters.get(&format!("{name}.weight"))?;
        Ok(linear(x, weight, self.parameters.find(&format!("{name}.bias")))?)
    }

    /// O·relu(H·x + b) + R·x + c.
    fn residual_block(&self, prefix: &str, x: &Tensor, dropout: (Places, u64)) -> Result<Tensor> {
        let hidden = self.map(&format!("{prefix}.hidden_layer"), x)?.relu()?;
        let output = self.map(&format!("{prefix}.output_layer"), &hidden)?;
        let residual = self.map(&format!("{prefix}.residual_layer"), x)?;
        Ok((dropout.0.drop(output, dropout.1)? + residual)?)
    }

    /// Quantiles of the normalised future of every variate; `key` of `None` switches dropout off.
    ///
    /// # Shapes
    /// [variates, patches, levels, patch].
    pub fn forward(&self, groups: &[Group], patches: usize, key: Option<u64>) -> Result<Tensor> {
        let config = &self.config.config;
        let places = Places(key.map_or(Dropout::none(), |key| Dropout::new(self.config.dropout_rate, key)));
        let layout = self.patching.lay_out(groups, patches);
        let mut x = places.drop(self.embed(&layout, places)?, 0)?;
        let attend = Attends::new(config, &layout)?;
        for block in 0..config.num_layers {
            let at = |place: u64| 16 * (block as u64 + 1) + place;
            let layer = |layer: usize| format!("encoder.block.{block}.layer.{layer}");
            let time = self.attention(&layer(0), &x, &attend.time, places, at(0))?;
            x = (x + places.drop(time, at(1))?)?;
            let group = match &attend.group {
                Some(group) => self.attention(&layer(1), &x, group, places, at(2))?,
                // The softmax over a single score is 1.
                None => {
                    let value =
                        self.map(&format!("{}.{SELF_ATTENTION}.v", layer(1)), &self.norm(&layer(1), &x)?)?;
                    self.map(&format!("{}.{SELF_ATTENTION}.o", layer(1)), &value)?
                }
            };
            x = (x + places.drop(group, at(3))?)?;
            let feed = format!("{}.{FEED_FORWARD}", layer(2));
            let hidden = self.map(&format!("{feed}.wi"), &self.norm(&layer(2), &x)?)?.relu()?;
            let out = self.map(&format!("{feed}.wo"), &places.drop(hidden, at(4))?)?;
            x = (x + places.drop(out, at(5))?)?;
        }
        // Only the future is read, so only it is normed and mapped.
        let ahead: Vec<u32> =
            layout.rows.iter().flat_map(|row| row.end - patches..row.end).map(|token| token as u32).collect();
        let n = ahead.len();
        let x = x.index_select(&Tensor::from_vec(ahead, n, x.device())?, 0)?;
        let weight = self.parameters.get("encoder.final_layer_norm.weight")?;
        let x = places.drop(rms_norm(&x, weight, config.layer_norm_epsilon)?, 1)?;
        let output = self.residual_block("output_patch_embedding", &x, (places, 2))?;
        let levels = config.chronos_config.quantiles.len();
        Ok(output.reshape((layout.rows.len(), patches, levels, self.patching.size))?)
    }

    fn norm(&self, layer: &str, x: &Tensor) -> Result<Tensor> {
        let weight = self.parameters.get(&format!("{layer}.layer_norm.weight"))?;
        Ok(rms_norm(x, weight, self.config.config.layer_norm_epsilon)?)
    }

    fn attention(
        &self,
        layer: &str,
        x: &Tensor,
        attention: &Attention,
        places: Places,
        place: u64,
    ) -> Result<Tensor> {
        let part = |part: &str| self.parameters.get(&format!("{layer}.{SELF_ATTENTION}.{part}.weight"));
        let qkv =
            linear(&self.norm(layer, x)?, &Tensor::cat(&[part("q")?, part("k")?, part("v")?], 0)?, None)?;
        let attention = Attention { dropout: places.0.at(place), ..attention.clone() };
        self.map(&format!("{layer}.{SELF_ATTENTION}.o"), &attention.forward(&qkv)?)
    }

    /// Embeds patches and puts them in the order of the tokens.
    fn embed(&self, layout: &Layout, places: Places) -> Result<Tensor> {
        let table = self.parameters.get("shared.weight")?;
        let patches = |values: &[f32]| {
            let columns = 3 * self.patching.size;
            Tensor::from_slice(values, (values.len() / columns, columns), table.device())
        };
        // One pass for histories and futures: they share the weights.
        let both = patches(&[layout.context.as_slice(), layout.future.as_slice()].concat())?;
        let embedded = self.residual_block("input_patch_embedding", &both, (places, 3))?;
        let separator = table.narrow(0, 1, 1)?;
        let rows = Tensor::cat(&[&embedded, &separator], 0)?;
        let context = layout.context.len() / (3 * self.patching.size);
        let last = both.dim(0)?;
        let mut order = Vec::with_capacity(layout.positions.len());
        let mut next = 0;
        for (row, &at) in layout.rows.iter().zip(&layout.future_of) {
            let own = row.len() - 1 - layout.patches;
            order.extend((next..next + own).map(|patch| patch as u32));
            next += own;
            order.push(last as u32);
            let future = context + at * layout.patches;
            order.extend((future..future + layout.patches).map(|patch| patch as u32));
        }
        let n = order.len();
        Ok(rows.index_select(&Tensor::from_vec(order, n, table.device())?, 0)?)
    }

    /// The quantile loss of examples that all ask for `patches` patches.
    ///
    /// Twice the pinball loss in the space of the network, summed over levels, with a mean over all steps of the patches
    /// and all variates; missing values, steps beyond the horizon and futures that are known count as zeros in the mean.
    ///
    /// # Errors
    /// [`ModelError::ShapeMismatch`] when a future is longer than the patches.
    pub fn loss(&self, examples: &[Example], patches: usize, key: Option<u64>) -> Result<Tensor> {
        let (size, levels) = (self.patching.size, &self.config.config.chronos_config.quantiles);
        let steps = patches * size;
        let mut actual = Vec::new();
        let mut weight = Vec::new();
        for ((variate, future), &counting) in
            examples.iter().flat_map(|example| example.group.iter().zip(&example.actual).zip(&example.weight))
        {
            if future.len() > steps {
                let (got, expected) = (future.len(), steps);
                return Err(ModelError::ShapeMismatch { what: "steps of a future", got, expected });
            }
            for step in 0..steps {
                let value = future.get(step).copied().unwrap_or(f32::NAN);
                let known = variate.future.get(step).is_some_and(|value| !value.is_nan());
                let counts = !value.is_nan() && !known;
                actual.push(if counts { value } else { 0.0 });
                weight.push(if counts { counting } else { 0.0 });
            }
        }
        let groups: Vec<Group> = examples.iter().map(|example| example.group.clone()).collect();
        let quantiles = self.forward(&groups, patches, key)?;
        let variates = quantiles.dim(0)?;
        let device = quantiles.device();
        let shape = (variates, patches, 1, size);
        let actual = Tensor::from_vec(actual, shape, device)?;
        let weight = Tensor::from_vec(weight, shape, device)?;
        let taus: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
        let taus = Tensor::from_vec(taus, (1, 1, levels.len(), 1), device)?;
        let error = actual.broadcast_sub(&quantiles)?;
        // max(τu, (τ − 1)u) = τu + max(−u, 0).
        let pinball = (error.broadcast_mul(&taus)? + error.neg()?.relu()?)?.broadcast_mul(&weight)?;
        Ok((pinball.sum_all()? * (2.0 / (variates * steps) as f64))?)
    }
}

/// Who attends to whom in one pass.
struct Attends {
    time: Attention,
    /// Absent when every token is alone.
    group: Option<Attention>,
}

impl Attends {
    fn new(config: &Config, layout: &Layout) -> Result<Self> {
        let shape = config.heads();
        let positions: Arc<[u32]> = layout.positions.iter().map(|&position| position as u32).collect();
        let length = layout.positions.iter().max().map_or(0, |last| last + 1);
        let table = Rope::new(shape.dim, config.rope_theta).table(length);
        let rows = layout.positions.len();
        let time = layout.rows.iter().map(|row| row.clone().map(|token| token as u32).collect()).collect();
        let attention = |members, rotation| -> Result<Attention> {
            let sequences = Arc::new(Sequences::new(members, rows)?);
            Ok(Attention { shape, scale: 1.0, causal: false, rotation, sequences, dropout: Dropout::none() })
        };
        let meetings = &layout.everywhere;
        let group = if meetings.cells.is_empty() {
            None
        } else {
            let alone = meetings.alone.iter().map(|&token| vec![token as u32]);
            let cells = meetings.cells.iter().map(|cell| cell.members.iter().map(|&t| t as u32).collect());
            Some(attention(alone.chain(cells).collect(), None)?)
        };
        Ok(Self { time: attention(time, Some((table, positions)))?, group })
    }
}

/// The reference's rule, a standard deviation by the width that feeds a map.
fn initial(spec: &TensorSpec, config: &Chronos2Training) -> Initial {
    let Config { d_model, d_kv, .. } = config.config;
    let factor = config.initializer_factor;
    let name = spec.name.as_str();
    match spec.shape.as_slice() {
        [_] if name.ends_with("norm.weight") => Initial::Constant(factor),
        [_] => Initial::Constant(0.0),
        _ if name == "shared.weight" => Initial::Normal(factor),
        _ if name.ends_with(".q.weight") => Initial::Normal(factor / ((d_model * d_kv) as f32).sqrt()),
        [_, input] => Initial::Normal(factor / (*input as f32).sqrt()),
        _ => Initial::Constant(0.0),
    }
}
