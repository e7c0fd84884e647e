//! The loop.

use super::checkpoint::{Checkpoints, State};
use super::error::{Result, TrainError};
use super::noise::Noise;
use super::optimiser::{AdamW, global_norm};
use super::sampler::Sampler;
use super::trainable::{Trainable, Validation, set_weights, weights};
use candle_core::Tensor;
use kronos_job::regime::Options;
use kronos_models::error::ModelError;
use kronos_models::interrupt::Interrupt;
use serde_json::{Value, json};

/// What happens during a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A run goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
    },
    /// A step was done.
    Step {
        /// Steps done.
        step: u64,
        /// Training loss of the step.
        loss: f64,
        /// Learning rate of the step.
        rate: f64,
        /// Global norm of the gradient, before clipping.
        norm: f64,
    },
    /// The validation windows were looked at.
    Evaluated(Evaluation),
    /// A checkpoint was written.
    Checkpointed {
        /// Steps done.
        step: u64,
    },
}

/// One evaluation of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Steps done.
    pub step: u64,
    /// Mean training loss since the evaluation before; NaN at step 0.
    pub train_loss: f64,
    /// The outcome.
    pub validation: Validation,
    /// Whether it is the best so far.
    pub best: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Steps done.
    pub steps: u64,
    /// Step whose weights the network has now.
    pub best_step: u64,
    /// Validation loss of those weights.
    pub best_loss: f64,
    /// Whether the patience ended it.
    pub stopped_early: bool,
    /// (step, training loss, validation loss) of every evaluation.
    pub history: Vec<(u64, f64, f64)>,
}

impl Report {
    /// The evaluations as they are kept beside a model.
    pub fn lines(&self) -> Vec<Value> {
        let line = |(step, train, validation): &(u64, f64, f64)| json!({"step": step, "train_loss": train.is_finite().then_some(train), "validation_loss": validation});
        self.history.iter().map(line).collect()
    }
}

/// Trains until the steps are done or the patience is at its end, and leaves the best weights in the network.
///
/// With `checkpoints`, a run that finds a checkpoint of its own goes on from there, with the bits it would have had
/// without the interruption.
///
/// # Errors
/// [`ModelError::Cancelled`] once `interrupt` says so, after a checkpoint has been written; [`TrainError::Diverged`];
/// [`TrainError::OtherRun`] for a checkpoint of another run; what the network, the options and the files give rise to.
pub fn train<T: Trainable + ?Sized>(
    network: &T,
    sampler: &Sampler,
    options: &Options,
    checkpoints: Option<&Checkpoints>,
    interrupt: &dyn Interrupt,
    observe: &mut dyn FnMut(&Event),
) -> Result<Report> {
    options.validate()?;
    let mut run =
        Run { network, sampler, options, adam: AdamW::new(options.optimiser, network.parameters())? };
    let mut state = State::default();
    if let Some(checkpoints) = checkpoints
        && let Some(saved) = checkpoints.load(network, options)?
    {
        state = saved.restore(network.parameters(), &mut run.adam)?;
        observe(&Event::Resumed { step: state.step });
    }
    if options.average.is_some() && state.average.is_empty() {
        state.average = weights(network.parameters())?;
    }
    if state.best_weights.is_empty() {
        run.evaluate(&mut state, interrupt, observe)?;
    }
    let save = |run: &Run<'_, T>, state: &State, observe: &mut dyn FnMut(&Event)| -> Result<()> {
        if let Some(checkpoints) = checkpoints {
            checkpoints.save(run.network, options, state, &run.adam)?;
            observe(&Event::Checkpointed { step: state.step });
        }
        Ok(())
    };
    while state.step < options.steps && !state.stopped {
        let cancelled = |error: &TrainError| matches!(error, TrainError::Model(ModelError::Cancelled));
        let step = interrupt.check().map_err(TrainError::from).and_then(|()| {
            run.step(&mut state, observe)?;
            let due = state.step.is_multiple_of(options.evaluate_every) || state.step == options.steps;
            if due { run.evaluate(&mut state, interrupt, observe) } else { Ok(()) }
        });
        match step {
            // An evaluation that was cut short is made again: its step must not be saved as evaluated.
            Err(error) if cancelled(&error) && !state.evaluation_due => {
                save(&run, &state, observe)?;
                return Err(error);
            }
            other => other?,
        }
        if checkpoints.is_some_and(|checkpoints| state.step.is_multiple_of(checkpoints.every)) {
            save(&run, &state, observe)?;
        }
    }
    save(&run, &state, observe)?;
    set_weights(network.parameters(), &state.best_weights)?;
    Ok(Report {
        steps: state.step,
        best_step: state.best_step,
        best_loss: state.best_loss,
        stopped_early: state.stopped,
        history: state.history,
    })
}

struct Run<'a, T: ?Sized> {
    network: &'a T,
    sampler: &'a Sampler,
    options: &'a Options,
    adam: AdamW,
}

impl<T: Trainable + ?Sized> Run<'_, T> {
    /// One step of the optimiser.
    fn step(&mut self, state: &mut State, observe: &mut dyn FnMut(&Event)) -> Result<()> {
        let Options { batch, accumulate, seed, .. } = *self.options;
        let parameters = self.network.parameters();
        let mut gradients: Vec<Option<Tensor>> = vec![None; parameters.len()];
        let mut loss = 0.0;
        for pass in state.step * accumulate as u64..(state.step + 1) * accumulate as u64 {
            let picks = self.sampler.picks(pass * batch as u64, batch);
            let mean = self.network.loss(&picks, Noise::new(seed, pass))?;
            let value = f64::from(mean.to_scalar::<f32>()?);
            if !value.is_finite() {
                return Err(TrainError::Diverged { step: state.step + 1, what: "loss" });
            }
            loss += value / accumulate as f64;
            let mut found = mean.backward()?;
            for (sum, parameter) in gradients.iter_mut().zip(parameters) {
                if let Some(gradient) = found.remove(&parameter.var) {
                    *sum = Some(match sum.take() {
                        Some(sum) => (sum + gradient)?,
                        None => gradient,
                    });
                }
            }
        }
        let norm = global_norm(&gradients)? / accumulate as f64;
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: state.step + 1, what: "gradient" });
        }
        let clip = self.options.clip.map_or(1.0, |most| if norm > most { most / norm } else { 1.0 });
        let full = self.options.optimiser.learning_rate;
        let rate = state.plateau.rate(&self.options.schedule, full, state.step, self.options.steps);
        self.adam.step(parameters, &gradients, rate, clip / accumulate as f64)?;
        state.step += 1;
        self.average(state)?;
        state.train_loss.0 += loss;
        state.train_loss.1 += 1;
        observe(&Event::Step { step: state.step, loss, rate, norm });
        Ok(())
    }

    /// Takes the weights of this step into their mean.
    fn average(&self, state: &mut State) -> Result<()> {
        let Some(most) = self.options.average else { return Ok(()) };
        let step = state.step as f64;
        let share = (1.0 - most.min((1.0 + step) / (10.0 + step))) as f32;
        for (means, values) in state.average.iter_mut().zip(weights(self.network.parameters())?) {
            means.iter_mut().zip(values).for_each(|(mean, value)| *mean += share * (value - *mean));
        }
        Ok(())
    }

    /// Validates the weights that would be kept now.
    fn validate(&self, state: &State, interrupt: &dyn Interrupt) -> Result<Validation> {
        let parameters = self.network.parameters();
        if self.options.average.is_none() {
            return self.network.validate(interrupt);
        }
        let last = weights(parameters)?;
        set_weights(parameters, &state.average)?;
        let validation = self.network.validate(interrupt);
        set_weights(parameters, &last)?;
        validation
    }

    /// Looks at the validation windows, and keeps the weights when they are the best so far.
    fn evaluate(
        &self,
        state: &mut State,
        interrupt: &dyn Interrupt,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        state.evaluation_due = true;
        let validation = self.validate(state, interrupt)?;
        state.evaluation_due = false;
        if !validation.loss.is_finite() {
            return Err(TrainError::Diverged { step: state.step, what: "validation loss" });
        }
        let (sum, count) = std::mem::take(&mut state.train_loss);
        let train_loss = sum / count as f64;
        let best = validation.loss < state.best_loss;
        if best {
            (state.best_loss, state.best_step, state.stale) = (validation.loss, state.step, 0);
            state.best_weights = match self.options.average {
                Some(_) => state.average.clone(),
                None => weights(self.network.parameters())?,
            };
        } else {
            state.stale += 1;
            state.stopped = self.options.patience.is_some_and(|patience| state.stale >= patience);
        }
        state.plateau.evaluated(&self.options.schedule, validation.loss);
        state.history.push((state.step, train_loss, validation.loss));
        observe(&Event::Evaluated(Evaluation { step: state.step, train_loss, validation, best }));
        Ok(())
    }
}
