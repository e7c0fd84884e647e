//! AdamW, and clipping of gradients by their global norm.

use super::error::Result;
use super::trainable::Parameter;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use kronos_job::regime::AdamWOptions;
use kronos_models::layers::tensor::with_values;
use std::cell::RefCell;

/// Adam with decoupled weight decay.
///
/// # Source
/// Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2, in the order of operations of
/// PyTorch's `torch.optim.AdamW`, whose values the test compares with.
#[derive(Debug)]
pub struct AdamW {
    options: AdamWOptions,
    steps: u64,
    moments: Vec<Moments>,
}

/// Running means of one parameter: beside it on its device, or in plain memory on the CPU, where one pass does it all.
#[derive(Debug)]
enum Moments {
    Host { first: Vec<f32>, second: Vec<f32> },
    Device { first: Tensor, second: Tensor },
}

/// The factors of one step for one parameter.
struct Factors {
    options: AdamWOptions,
    /// What the gradient is multiplied with, for clipping.
    clip: f32,
    /// What remains of the weight.
    keep: f32,
    /// Learning rate over the bias correction of the first moment.
    rate: f32,
    /// Root of the bias correction of the second moment.
    root: f32,
}

impl AdamW {
    /// The state before the first step.
    pub fn new(options: AdamWOptions, parameters: &[Parameter]) -> Result<Self> {
        options.validate()?;
        let zeros = |parameter: &Parameter| -> Result<Moments> {
            let count = parameter.var.elem_count();
            Ok(match parameter.var.device().is_cpu() {
                true => Moments::Host { first: vec![0.0; count], second: vec![0.0; count] },
                false => Moments::Device {
                    first: parameter.var.zeros_like()?,
                    second: parameter.var.zeros_like()?,
                },
            })
        };
        Ok(Self { options, steps: 0, moments: parameters.iter().map(zeros).collect::<Result<_>>()? })
    }

    /// Moves every parameter that has a gradient by one step.
    ///
    /// # Units
    /// `rate`: learning rate of this step, before a parameter's own factor; `clip`: what gradients are multiplied with.
    pub fn step(
        &mut self,
        parameters: &[Parameter],
        gradients: &[Option<Tensor>],
        rate: f64,
        clip: f64,
    ) -> Result<()> {
        self.steps += 1;
        let exponent = self.steps.min(i32::MAX as u64) as i32;
        let first_correction = 1.0 - self.options.beta1.powi(exponent);
        let second_correction = 1.0 - self.options.beta2.powi(exponent);
        for ((parameter, gradient), moments) in parameters.iter().zip(gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            let rate = rate * parameter.rate;
            let factors = Factors {
                options: self.options,
                clip: clip as f32,
                keep: (1.0 - rate * self.options.weight_decay * parameter.decay) as f32,
                rate: (rate / first_correction) as f32,
                root: second_correction.sqrt() as f32,
            };
            match moments {
                Moments::Host { first, second } => {
                    let moments = RefCell::new((first.as_mut_slice(), second.as_mut_slice()));
                    parameter.var.inplace_op2(&gradient.contiguous()?, &HostStep { factors, moments })?;
                }
                Moments::Device { first, second } => {
                    factors.on_device(&parameter.var, gradient, first, second)?;
                }
            }
        }
        Ok(())
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// First and second moments of every parameter, for a checkpoint.
    pub(super) fn moments(&self) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let read = |moments: &Moments| {
            Ok(match moments {
                Moments::Host { first, second } => (first.clone(), second.clone()),
                Moments::Device { first, second } => (values(first)?, values(second)?),
            })
        };
        self.moments.iter().map(read).collect()
    }

    /// Puts back what [`AdamW::moments`] gave after `steps` steps.
    pub(super) fn restore(&mut self, steps: u64, saved: Vec<(Vec<f32>, Vec<f32>)>) -> Result<()> {
        self.steps = steps;
        for (moments, (first_saved, second_saved)) in self.moments.iter_mut().zip(saved) {
            match moments {
                Moments::Host { first, second } => (*first, *second) = (first_saved, second_saved),
                Moments::Device { first, second } => {
                    let (shape, device) = (first.shape().clone(), first.device().clone());
                    *first = Tensor::from_vec(first_saved, &shape, &device)?;
                    *second = Tensor::from_vec(second_saved, &shape, &device)?;
                }
            }
        }
        Ok(())
    }
}

impl Factors {
    /// The same arithmetic in tensor operations, for a device whose memory is not ours to walk through.
    fn on_device(
        &self,
        weight: &candle_core::Var,
        gradient: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> Result<()> {
        let AdamWOptions { beta1, beta2, epsilon, .. } = self.options;
        let gradient = (gradient * f64::from(self.clip))?;
        *first = ((&*first * beta1)? + (&gradient * (1.0 - beta1))?)?;
        *second = ((&*second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let divisor = ((second.sqrt()? / f64::from(self.root))? + epsilon)?;
        let step = (first.div(&divisor)? * f64::from(self.rate))?;
        weight.set(&((weight.as_tensor() * f64::from(self.keep))? - step)?)?;
        Ok(())
    }
}

/// One step of one parameter on the CPU, in place.
struct HostStep<'m> {
    factors: Factors,
    moments: RefCell<(&'m mut [f32], &'m mut [f32])>,
}

impl InplaceOp2 for HostStep<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (Some((from, to)), Some((g_from, g_to))) =
            (weight_layout.contiguous_offsets(), gradient_layout.contiguous_offsets())
        else {
            candle_core::bail!("expected contiguous parameters and gradients");
        };
        let CpuStorage::F32(weight) = weight else { candle_core::bail!("expected f32 parameters") };
        let gradient = &gradient.as_slice::<f32>()?[g_from..g_to];
        let Factors { options, clip, keep, rate, root } = &self.factors;
        let (beta1, beta2) = (options.beta1 as f32, options.beta2 as f32);
        let (new1, new2) = ((1.0 - options.beta1) as f32, (1.0 - options.beta2) as f32);
        let epsilon = options.epsilon as f32;
        let mut moments = self.moments.borrow_mut();
        let (first, second) = &mut *moments;
        let weights = weight[from..to].iter_mut().zip(gradient);
        for ((weight, gradient), (first, second)) in weights.zip(first.iter_mut().zip(second.iter_mut())) {
            let gradient = gradient * clip;
            *first = beta1 * *first + new1 * gradient;
            *second = beta2 * *second + new2 * gradient * gradient;
            *weight = *weight * keep - rate * (*first / (second.sqrt() / root + epsilon));
        }
        Ok(())
    }
}

/// The Euclidean norm of all gradients together, summed in f64 and in a fixed order.
pub fn global_norm(gradients: &[Option<Tensor>]) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.iter().flatten() {
        sum += match gradient.device().is_cpu() {
            true => with_values(&gradient.contiguous()?, squares)?,
            false => f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?),
        };
    }
    Ok(sum.sqrt())
}

/// Sum of squares in sixteen lanes, which the compiler turns into vectors and which do not depend on anything else.
fn squares(values: &[f32]) -> f64 {
    let mut total = 0.0;
    // Short runs in f32 lose nothing that f64 would keep; the runs are added in f64.
    for run in values.chunks(4096) {
        let mut lanes = [0f32; 16];
        let (whole, rest) = run.as_chunks::<16>();
        for chunk in whole {
            lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value * value);
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, value)| *lane += value * value);
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// `torch.optim.AdamW([p], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.05)` on p = (1, −2, 0.5) with gradients
    /// (0.1, −0.2, 3), (−0.4, 0, 1), (2, 0.5, −1), and by hand for the first step: m̂/(√v̂ + ε) = g/(|g| + ε).
    #[test]
    fn first_step_by_hand_and_three_by_the_recurrence() {
        let options =
            AdamWOptions { learning_rate: 0.1, beta1: 0.8, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.05 };
        let start = [1f64, -2.0, 0.5];
        let gradients = [[0.1, -0.2, 3.0], [-0.4, 0.0, 1.0], [2.0, 0.5, -1.0]];
        let parameter = Parameter::new("p", Var::new(&[1f32, -2.0, 0.5], &Device::Cpu).unwrap());
        let parameters = [parameter];
        let mut adam = AdamW::new(options, &parameters).unwrap();
        let (mut weight, mut m, mut v) = (start, [0f64; 3], [0f64; 3]);
        for (step, gradient) in gradients.iter().enumerate() {
            let tensor = Tensor::new(gradient.map(|g| g as f32).as_slice(), &Device::Cpu).unwrap();
            adam.step(&parameters, &[Some(tensor)], 0.1, 1.0).unwrap();
            for i in 0..3 {
                m[i] = 0.8 * m[i] + 0.2 * gradient[i];
                v[i] = 0.9 * v[i] + 0.1 * gradient[i] * gradient[i];
                let (c1, c2) = (1.0 - 0.8f64.powi(step as i32 + 1), 1.0 - 0.9f64.powi(step as i32 + 1));
                weight[i] -= 0.1 * 0.05 * weight[i];
                weight[i] -= 0.1 / c1 * m[i] / ((v[i] / c2).sqrt() + 1e-3);
            }
            let got = parameters[0].var.to_vec1::<f32>().unwrap();
            for i in 0..3 {
                assert!((f64::from(got[i]) - weight[i]).abs() < 1e-6, "{step}: {got:?} {weight:?}");
                if step == 0 {
                    let by_hand = start[i] * 0.995 - 0.1 * gradient[i] / (gradient[i].abs() + 1e-3);
                    assert!((f64::from(got[i]) - by_hand).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn both_ways_of_stepping_agree() {
        let options = AdamWOptions::default();
        let values: Vec<f32> = (0..100).map(|i| (i as f32 - 50.0) / 13.0).collect();
        let var = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
        let parameters = [Parameter::new("p", var(&values))];
        let mut adam = AdamW::new(options, &parameters).unwrap();
        let other = var(&values);
        let (mut first, mut second) = (other.zeros_like().unwrap(), other.zeros_like().unwrap());
        for step in 1..=5 {
            let gradient = parameters[0].var.affine(0.3, 0.1).unwrap();
            let (c1, c2) = (1.0 - 0.9f64.powi(step), 1.0 - 0.999f64.powi(step));
            let factors = Factors {
                options,
                clip: 0.5,
                keep: (1.0 - 1e-2 * 0.01) as f32,
                rate: (1e-2 / c1) as f32,
                root: c2.sqrt() as f32,
            };
            factors.on_device(&other, &gradient, &mut first, &mut second).unwrap();
            adam.step(&parameters, &[Some(gradient)], 1e-2, 0.5).unwrap();
            let (a, b) = (parameters[0].var.to_vec1::<f32>().unwrap(), other.to_vec1::<f32>().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn norms_by_hand_and_knobs_out_of_range() {
        let gradient = |values: &[f32]| Some(Tensor::new(values, &Device::Cpu).unwrap());
        let norm = global_norm(&[gradient(&[3.0]), None, gradient(&[0.0, 4.0])]).unwrap();
        assert_eq!(norm, 5.0);
        let long = vec![0.5f32; 10_001];
        assert!((global_norm(&[gradient(&long)]).unwrap() - (10_001f64 * 0.25).sqrt()).abs() < 1e-9);
        assert!(global_norm(&[gradient(&[f32::NAN])]).unwrap().is_nan());
        for options in [
            AdamWOptions { learning_rate: 0.0, ..AdamWOptions::default() },
            AdamWOptions { beta2: 1.0, ..AdamWOptions::default() },
            AdamWOptions { weight_decay: -1.0, ..AdamWOptions::default() },
            AdamWOptions { epsilon: f64::NAN, ..AdamWOptions::default() },
        ] {
            assert!(AdamW::new(options, &[]).is_err(), "{options:?}");
        }
    }
}
