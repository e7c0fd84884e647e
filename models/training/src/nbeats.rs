//! N-BEATS as something to train: the same network on tensors with gradients.

use crate::error::{Result, invalid};
use crate::layers::Traced;
use crate::leakage::check_inputs;
use crate::loss::{pinball, pinball_of};
use crate::score::Scorer;
use crate::{Noise, Panel, Parameter, Pick, Trainable, Validation, Window, artifact};
use candle_core::{Device, Tensor, Var};
use kronos_models::artifact::Tensors;
use kronos_models::interrupt::{Interrupt, NeverInterrupt};
use kronos_models::nbeats::config::{Config, ScalerConfig};
use kronos_models::nbeats::network::Network;
use kronos_models::nbeats::scaling::{Head, Scaled, Scaler};
use kronos_models::random::Stream;

/// Validation windows run through the network together.
const ROWS_PER_PASS: usize = 512;

/// Windows of one panel to learn from and to be chosen by.
#[derive(Debug, Clone)]
pub struct Source {
    /// The data.
    pub panel: Panel,
    /// The column that is forecast.
    pub column: usize,
    /// Windows to learn from; never empty.
    pub train: Vec<Window>,
    /// Windows to be chosen by; those of all sources together are not empty.
    pub validation: Vec<Window>,
}

/// A network with the windows it learns from.
#[derive(Debug)]
pub struct NBeatsTask {
    config: Config,
    scaler_config: ScalerConfig,
    scaler: Scaler,
    sources: Vec<Source>,
    parameters: Vec<Parameter>,
    network: Network<Traced>,
    /// Sums that make quantiles of the middle and of gaps, [level][level].
    sums: Tensor,
    shifts: Tensor,
    dropout: f64,
    device: Device,
}

impl NBeatsTask {
    /// A network with fresh weights, or those of `start`.
    ///
    /// # Errors
    /// What the configuration gives rise to; `InvalidParameter` for a dropout outside [0, 1) or a source without windows;
    /// [`Leakage`](crate::TrainError::Leakage) when an input changes with what comes after its cut.
    pub fn new(
        config: &Config,
        scaler: &ScalerConfig,
        sources: Vec<Source>,
        start: Option<&Tensors>,
        (seed, dropout): (i64, f64),
        device: &Device,
    ) -> Result<Self> {
        config.validate()?;
        scaler.validate()?;
        if !(0.0..1.0).contains(&dropout) {
            return Err(invalid("dropout", "at least 0 and below 1", dropout));
        }
        if sources.iter().any(|source| source.train.is_empty()) {
            return Err(invalid("training windows of a source", "at least 1", 0));
        }
        if sources.iter().all(|source| source.validation.is_empty()) {
            return Err(invalid("validation windows", "at least 1", 0));
        }
        let parameters = fresh(config, seed, device)?;
        let variable = |parameter: &Parameter| (parameter.name.clone(), parameter.var.as_tensor().clone());
        let traced: Tensors = parameters.iter().map(variable).collect();
        let mut task = Self {
            network: Network::load(&Traced::new(device), config, &traced)?,
            parameters,
            sums: sums(config, device)?,
            shifts: Tensor::new(
                Head::new(config).shifts.iter().map(|&shift| shift as f32).collect::<Vec<_>>(),
                device,
            )?,
            config: config.clone(),
            scaler_config: scaler.clone(),
            scaler: Scaler::new(config, scaler),
            sources: Vec::new(),
            dropout,
            device: device.clone(),
        };
        for source in &sources {
            for windows in [&source.train, &source.validation] {
                check_inputs(&source.panel, windows, |panel, window| {
                    let scaled = task.scaled(panel, source.column, window)?;
                    let mut inputs = scaled.inputs;
                    inputs.extend([scaled.loc as f32, scaled.scale as f32]);
                    Ok(inputs)
                })?;
            }
        }
        task.sources = sources;
        if let Some(start) = start {
            for parameter in &task.parameters {
                let values = kronos_models::layers::linear::tensor(start, &parameter.name)?;
                parameter.var.set(&values.to_device(device)?)?;
            }
        }
        Ok(task)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration of the scaler.
    pub fn scaler_config(&self) -> &ScalerConfig {
        &self.scaler_config
    }

    /// The weights as they are now, for a model that forecasts.
    pub fn tensors(&self) -> Result<Tensors> {
        let copy = |parameter: &Parameter| {
            Ok((parameter.name.clone(), parameter.var.as_detached_tensor().to_device(&Device::Cpu)?.copy()?))
        };
        self.parameters.iter().map(copy).collect()
    }

    /// The files of an artifact with the weights as they are now: `model.safetensors`, `config.json`, `scaler.json`.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(vec![
            ("model.safetensors".into(), artifact::safetensors(&artifact::parameters(&self.parameters)?)?),
            ("config.json".into(), artifact::pretty(&self.config)?),
            ("scaler.json".into(), artifact::pretty(&self.scaler_config)?),
        ])
    }

    /// Leaves out the training windows whose numbers do not satisfy `keep`, as for learning a few of them by heart.
    pub fn keep_training_windows(&mut self, keep: impl Fn(usize) -> bool) {
        for source in &mut self.sources {
            let kept = source.train.iter().enumerate().filter(|(number, _)| keep(*number));
            source.train = kept.map(|(_, window)| *window).collect();
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.var.elem_count()).sum()
    }

    fn scaled(&self, panel: &Panel, column: usize, window: Window) -> Result<Scaled> {
        Ok(self.scaler.scale(window.context(panel, column, self.config.context_length))?)
    }

    /// Outputs [rows, steps · levels] of inputs [rows, inputs].
    pub fn forward(&self, inputs: &Tensor, noise: Noise) -> Result<Tensor> {
        Ok(self.network.outputs(inputs, noise.dropout(self.dropout as f32), &NeverInterrupt)?)
    }

    /// Quantiles [rows, steps, levels] of outputs, in units of scale · growth.
    pub fn quantiles(&self, outputs: &Tensor) -> Result<Tensor> {
        let (levels, middle) = (self.config.quantile_levels.len(), self.config.middle());
        let flat = outputs.reshape((outputs.elem_count() / levels, levels))?;
        let shifted = flat.broadcast_add(&self.shifts)?;
        // ln(1 + e^x) without overflow: max(x, 0) + ln(1 + e^(−|x|)).
        let gaps = (shifted.relu()? + (shifted.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
        let parts: Vec<Tensor> = (0..levels)
            .map(|level| if level == middle { &flat } else { &gaps }.narrow(1, level, 1))
            .collect::<Result<_, _>>()?;
        let quantiles = Tensor::cat(&parts, 1)?.contiguous()?.matmul(&self.sums)?;
        Ok(quantiles.reshape((outputs.dim(0)?, self.config.horizon, levels))?)
    }

    /// Inputs, and targets in units of scale · growth, of windows of sources.
    fn batch(&self, windows: &[(usize, Window)]) -> Result<(Tensor, Tensor, Vec<Scaled>)> {
        let (horizon, rows) = (self.config.horizon, windows.len());
        let mut inputs = Vec::with_capacity(rows * self.config.inputs());
        let mut targets = Vec::with_capacity(rows * horizon);
        let mut all = Vec::with_capacity(rows);
        for &(source, window) in windows {
            let Source { panel, column, .. } = &self.sources[source];
            let scaled = self.scaled(panel, *column, window)?;
            inputs.extend_from_slice(&scaled.inputs);
            for (value, unit) in window.future(panel, *column, horizon).iter().zip(&self.scaler.head().growth)
            {
                targets.push((self.scaler.scaled_target(&scaled, *value)? / unit) as f32);
            }
            all.push(scaled);
        }
        let inputs = Tensor::from_vec(inputs, (rows, self.config.inputs()), &self.device)?;
        Ok((inputs, Tensor::from_vec(targets, (rows, horizon), &self.device)?, all))
    }
}

impl Trainable for NBeatsTask {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor> {
        let windows: Vec<(usize, Window)> =
            picks.iter().map(|pick| (pick.source, self.sources[pick.source].train[pick.window])).collect();
        let (inputs, targets, _) = self.batch(&windows)?;
        let quantiles = self.quantiles(&self.forward(&inputs, noise)?)?;
        pinball(&quantiles, &targets, &self.config.quantile_levels)
    }

    /// The mean quantile loss in units of the context's volatility, and scores of log returns (or changes).
    fn validate(&self, interrupt: &dyn Interrupt) -> Result<Validation> {
        let levels = &self.config.quantile_levels;
        let mut scorer = Scorer::new(levels);
        let (mut loss, mut count) = (0.0, 0.0);
        let windows: Vec<(usize, Window)> = (0..)
            .zip(&self.sources)
            .flat_map(|(number, source)| source.validation.iter().map(move |&window| (number, window)))
            .collect();
        for chunk in windows.chunks(ROWS_PER_PASS) {
            interrupt.check()?;
            let (inputs, targets, scaled) = self.batch(chunk)?;
            let quantiles = self.quantiles(&self.forward(&inputs.detach(), Noise::none())?.detach())?;
            let (quantiles, targets) = (quantiles.to_vec3::<f32>()?, targets.to_vec2::<f32>()?);
            for ((scaled, quantiles), targets) in scaled.iter().zip(&quantiles).zip(&targets) {
                for (step, (quantiles, &target)) in quantiles.iter().zip(targets).enumerate() {
                    let unit = scaled.scale * self.scaler.head().growth[step];
                    scorer.add(|level| f64::from(quantiles[level]) * unit, f64::from(target) * unit);
                    for (&quantile, &level) in quantiles.iter().zip(levels) {
                        loss += pinball_of(f64::from(quantile), f64::from(target), level);
                        count += 1.0;
                    }
                }
            }
        }
        let score = scorer.score();
        let scores = vec![
            ("mae".into(), score.mae),
            (scorer.loss_name(), score.wql),
            ("coverage".into(), score.coverage),
        ];
        Ok(Validation { loss: loss / count, scores })
    }

    fn identity(&self) -> String {
        let prints: Vec<String> = self
            .sources
            .iter()
            .map(|source| {
                format!("{} {} {}", source.panel.fingerprint(), source.train.len(), source.validation.len())
            })
            .collect();
        format!("{:?} {:?} {} {}", self.config, self.scaler_config, self.dropout, prints.join(" "))
    }
}

/// Weights uniform in ±1/√inputs, as PyTorch's linear layers begin; those of last layers a tenth of it, so that a fresh
/// network says little, which means a walk.
fn fresh(config: &Config, seed: i64, device: &Device) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::new();
    for (name, stack, _) in config.blocks() {
        let shapes = config.shapes(stack);
        let last = shapes.len() - 1;
        for (layer, (out, input)) in shapes.into_iter().enumerate() {
            let bound = (input as f64).sqrt().recip() * if layer == last { 0.1 } else { 1.0 };
            let name = format!("{name}.layers.{layer}");
            let stream = Stream::new(seed, &name, 0, "initial weights");
            let draw = |count: usize, what: u32| -> Vec<f32> {
                (0..count).map(|i| ((stream.uniform(i as u32, 0, what) * 2.0 - 1.0) * bound) as f32).collect()
            };
            let weight = Tensor::from_vec(draw(out * input, 0), (out, input), device)?;
            let bias = Tensor::from_vec(draw(out, 1), out, device)?;
            parameters.push(Parameter::new(format!("{name}.weight"), Var::from_tensor(&weight)?));
            parameters.push(Parameter::new(format!("{name}.bias"), Var::from_tensor(&bias)?).without_decay());
        }
    }
    Ok(parameters)
}

/// Column j holds what quantile j is the sum of: the middle, plus the gaps above it up to j or less those below it.
fn sums(config: &Config, device: &Device) -> Result<Tensor> {
    let (levels, middle) = (config.quantile_levels.len(), config.middle());
    let share = |part: usize, level: usize| match () {
        () if part == middle || (middle < part && part <= level) => 1.0,
        () if level <= part && part < middle => -1.0,
        () => 0.0,
    };
    let sums: Vec<f32> =
        (0..levels).flat_map(|part| (0..levels).map(move |level| share(part, level))).collect();
    Ok(Tensor::from_vec(sums, (levels, levels), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PanelSeries;
    use kronos_models::nbeats::config::{Input, Kind, Stack, Transform};

    fn task(after_the_cut: f64) -> NBeatsTask {
        let stack = Stack {
            kind: Kind::Generic,
            blocks: 1,
            layers: 1,
            width: 4,
            shared: false,
            degree: None,
            harmonics: None,
        };
        let config = Config {
            model_type: kronos_models::nbeats::config::MODEL_TYPE.into(),
            context_length: 8,
            horizon: 3,
            quantile_levels: vec![0.1, 0.5, 0.9],
            input: Input::Level,
            growth: 0.5,
            stacks: vec![stack],
        };
        let price = |row: usize| if row < CUT { 100.0 + (row * row % 7) as f64 } else { after_the_cut };
        let values = vec![(0..60).map(price).collect()];
        let series = PanelSeries { name: "A".into(), times: (0..60).collect(), values };
        let panel = Panel { columns: vec!["close".into()], series: vec![series] };
        let windows = vec![Window { series: 0, cut: 20 }];
        let source = Source { panel, column: 0, train: windows.clone(), validation: windows };
        let scaler = ScalerConfig::new(Transform::Log);
        NBeatsTask::new(&config, &scaler, vec![source], None, (3, 0.0), &Device::Cpu).unwrap()
    }

    const CUT: usize = 40;

    /// Whatever comes, what the network sees of a window and what it is scaled by are the same to the bit.
    #[test]
    fn nothing_after_the_cut_changes_an_input() {
        let batch = |after_the_cut| {
            let window = Window { series: 0, cut: CUT as u32 };
            let (inputs, targets, mut scaled) = task(after_the_cut).batch(&[(0, window)]).unwrap();
            let bits = |tensor: Tensor| {
                tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits)
            };
            (bits(inputs).collect::<Vec<_>>(), scaled.remove(0), bits(targets).collect::<Vec<_>>())
        };
        let (before, after) = (batch(90.0), batch(120.0));
        assert_eq!((&before.0, &before.1), (&after.0, &after.1));
        assert_ne!(before.2, after.2, "the targets are what came");
        // The newest value is the last before the cut: 39 · 39 is 2 more than a multiple of 7.
        assert!((before.1.loc - 102f64.ln()).abs() < 1e-12, "{:?}", before.1);
    }
}
