//! `config.json` and `scaler.json` of an N-BEATS model and the tensors they imply.

use crate::artifact::TensorSpec;
use crate::error::{ModelError, Result};
use crate::quantile::QuantileLevels;
use serde::{Deserialize, Serialize};

/// `config.json`. The files are ours alone, so an unknown key is a mistake and refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always `nbeats`.
    pub model_type: String,
    /// Values of history.
    pub context_length: usize,
    /// Steps of a forecast.
    pub horizon: usize,
    /// Quantile levels, ascending.
    pub quantile_levels: Vec<f64>,
    /// What the first block sees.
    pub input: Input,
    /// Quantiles of step h are in units of scale · h^growth: 0.5 for what moves like a walk, 0 for what stays.
    pub growth: f64,
    /// The stacks, in order.
    pub stacks: Vec<Stack>,
}

/// What the first block sees of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Values relative to the last one, as in the paper.
    Level,
    /// Changes from value to value, in which volatility is plain to see.
    Change,
}

/// Blocks of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// What the blocks may say.
    pub kind: Kind,
    /// Number of blocks.
    pub blocks: usize,
    /// Hidden layers of a block.
    pub layers: usize,
    /// Width of a hidden layer.
    pub width: usize,
    /// Whether all blocks of the stack have the same weights.
    #[serde(default)]
    pub shared: bool,
    /// Degree of the polynomial of a trend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degree: Option<usize>,
    /// Harmonics of a seasonality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harmonics: Option<usize>,
}

/// Kinds of stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Anything.
    Generic,
    /// A polynomial of time.
    Trend,
    /// A Fourier series of time.
    Seasonality,
}

/// `scaler.json`: how the values of a context become inputs. Loc and scale come from the context alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScalerConfig {
    /// What is scaled.
    pub transform: Transform,
    /// What is subtracted; always the last value.
    pub loc: String,
    /// What is divided by; always the root mean square of the changes.
    pub scale: String,
    /// Least scale: of the logarithm, or relative to the last value.
    pub floor: f64,
}

/// What is done with values before they are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// Their natural logarithm: for prices. A value that is not positive is refused.
    Log,
    /// Nothing.
    None,
}

impl ScalerConfig {
    /// The scaler of a transform.
    pub fn new(transform: Transform) -> Self {
        Self { transform, loc: LOC.into(), scale: SCALE.into(), floor: 1e-6 }
    }

    /// Rejects what this code does not do.
    pub fn validate(&self) -> Result<()> {
        for (name, got, expected) in [("loc", &self.loc, LOC), ("scale", &self.scale, SCALE)] {
            if got != expected {
                return Err(invalid(name, format!("\"{expected}\""), got));
            }
        }
        match self.floor > 0.0 && self.floor.is_finite() {
            true => Ok(()),
            false => Err(invalid("floor", "above 0", self.floor)),
        }
    }
}

const LOC: &str = "last";
const SCALE: &str = "rms_of_changes";

/// The model type that marks the family.
pub const MODEL_TYPE: &str = "nbeats";

/// Bounds far above any useful model; they keep a damaged file from asking for memory.
const MAX_CONTEXT: usize = 8192;
const MAX_HORIZON: usize = 2048;
const MAX_STACKS: usize = 64;
const MAX_BLOCKS: usize = 64;
const MAX_LAYERS: usize = 16;
const MAX_WIDTH: usize = 8192;
const MAX_LEVELS: usize = 101;
const MAX_DEGREE: usize = 8;
const MAX_HARMONICS: usize = 64;

impl Config {
    /// Rejects what no file can satisfy or no forward pass can run.
    pub fn validate(&self) -> Result<()> {
        if self.model_type != MODEL_TYPE {
            return Err(invalid("model_type", format!("\"{MODEL_TYPE}\""), &self.model_type));
        }
        within("context_length", self.context_length, 2, MAX_CONTEXT)?;
        within("horizon", self.horizon, 1, MAX_HORIZON)?;
        within("stacks", self.stacks.len(), 1, MAX_STACKS)?;
        within("quantile_levels", self.quantile_levels.len(), 1, MAX_LEVELS)?;
        QuantileLevels::new(self.quantile_levels.clone())?;
        if !(0.0..=1.0).contains(&self.growth) {
            return Err(invalid("growth", "between 0 and 1", self.growth));
        }
        for stack in &self.stacks {
            within("blocks", stack.blocks, 1, MAX_BLOCKS)?;
            within("layers", stack.layers, 1, MAX_LAYERS)?;
            within("width", stack.width, 1, MAX_WIDTH)?;
            match (stack.kind, stack.degree, stack.harmonics) {
                (Kind::Generic, None, None) => {}
                (Kind::Trend, Some(degree), None) => within("degree", degree, 0, MAX_DEGREE)?,
                (Kind::Seasonality, None, Some(harmonics)) => {
                    within("harmonics", harmonics, 1, MAX_HARMONICS)?
                }
                (Kind::Generic, ..) => {
                    return Err(invalid("degree or harmonics", "absent of a generic stack", "one"));
                }
                (Kind::Trend, ..) => return Err(invalid("degree", "given, and no harmonics", "none")),
                (Kind::Seasonality, ..) => return Err(invalid("harmonics", "given, and no degree", "none")),
            }
        }
        Ok(())
    }

    /// Numbers that a block sees.
    pub fn inputs(&self) -> usize {
        match self.input {
            Input::Level => self.context_length,
            Input::Change => self.context_length - 1,
        }
    }

    /// Numbers that a forecast consists of.
    pub fn outputs(&self) -> usize {
        self.horizon * self.quantile_levels.len()
    }

    /// Position of the level that the others are built up from: 0.5, or the one nearest to it.
    pub fn middle(&self) -> usize {
        let distance = |level: f64| (level - 0.5).abs();
        let nearest = self
            .quantile_levels
            .iter()
            .enumerate()
            .min_by(|(_, a), (_, b)| distance(**a).total_cmp(&distance(**b)));
        nearest.map_or(0, |(index, _)| index)
    }

    /// The blocks whose weights are stored, in the order they are applied, with the number of times each is used.
    pub fn blocks(&self) -> Vec<(String, &Stack, usize)> {
        let of = |(number, stack): (usize, &'_ Stack)| -> Vec<(String, usize)> {
            let name = |block| format!("stacks.{number}.blocks.{block}");
            match stack.shared {
                true => vec![(name(0), stack.blocks)],
                false => (0..stack.blocks).map(|block| (name(block), 1)).collect(),
            }
        };
        let stacks = self.stacks.iter().enumerate();
        stacks
            .flat_map(|(number, stack)| {
                of((number, stack)).into_iter().map(move |(name, times)| (name, stack, times))
            })
            .collect()
    }

    /// Numbers that the last layer of a block yields: those of the backcast, then those of the forecast.
    pub fn thetas(&self, stack: &Stack) -> (usize, usize) {
        let levels = self.quantile_levels.len();
        match (stack.degree, stack.harmonics) {
            (Some(degree), _) => (degree + 1, levels * (degree + 1)),
            (_, Some(harmonics)) => {
                let waves = 2 * frequencies(harmonics, self.horizon).len();
                (waves, levels * waves)
            }
            (None, None) => (self.inputs(), self.outputs()),
        }
    }

    /// The tensors of `model.safetensors`.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn tensors(&self) -> Result<Vec<TensorSpec>> {
        self.validate()?;
        let mut specs = Vec::new();
        for (name, stack, _) in self.blocks() {
            for (layer, (out, input)) in self.shapes(stack).into_iter().enumerate() {
                specs.push(TensorSpec::required(format!("{name}.layers.{layer}.weight"), [out, input]));
                specs.push(TensorSpec::required(format!("{name}.layers.{layer}.bias"), [out]));
            }
        }
        Ok(specs)
    }

    /// Outputs and inputs of each layer of a block; the last one is linear, the others are rectified.
    pub fn shapes(&self, stack: &Stack) -> Vec<(usize, usize)> {
        let (backcast, forecast) = self.thetas(stack);
        let hidden = (0..stack.layers)
            .map(|layer| (stack.width, if layer == 0 { self.inputs() } else { stack.width }));
        hidden.chain([(backcast + forecast, stack.width)]).collect()
    }
}

/// Frequencies of a seasonality in cycles per horizon: 0, then from 1 in steps of 1/harmonics to below half the horizon.
pub fn frequencies(harmonics: usize, horizon: usize) -> Vec<f64> {
    let harmonics_f = harmonics as f64;
    let end = harmonics_f / 2.0 * horizon as f64;
    let above = (harmonics..).map(|k| k as f64).take_while(|&k| k < end).map(|k| k / harmonics_f);
    std::iter::once(0.0).chain(above).collect()
}

fn within(name: &'static str, got: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(invalid(name, format!("between {least} and {most}"), got))
}

fn invalid(name: &'static str, expected: impl Into<String>, got: impl ToString) -> ModelError {
    ModelError::InvalidParameter { name, expected: expected.into(), got: got.to_string() }
}
