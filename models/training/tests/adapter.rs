//! An adapter is trained by the chain rule, whatever the task.
#![allow(clippy::unwrap_used)] // a test may stop where it is

use candle_core::{Device, Tensor, Var};
use kronos_job::AdapterOptions;
use kronos_models::interrupt::Interrupt;
use kronos_training::adapter::AdapterTask;
use kronos_training::{Noise, Parameter, Pick, Result, Trainable, Validation};

/// Σ (W·x − y)² for x = (1, 2, 3) and y = (1, −1): one map, and a table that is no map.
struct Squares {
    parameters: Vec<Parameter>,
}

impl Squares {
    fn new() -> Self {
        let var = |name: &str| {
            let values = [[0.5f32, -1.0, 0.25], [2.0, 0.0, -0.5]];
            Parameter::new(name, Var::new(&values, &Device::Cpu).unwrap())
        };
        Self { parameters: vec![var("layer.q.weight"), var("table.q.weight")] }
    }

    fn values(&self, place: usize) -> Vec<f32> {
        self.parameters[place].var.flatten_all().unwrap().to_vec1().unwrap()
    }
}

impl Trainable for Squares {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, _: &[Pick], _: Noise) -> Result<Tensor> {
        let x = Tensor::new(&[[1f32], [2.0], [3.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[1f32], [-1.0]], &Device::Cpu)?;
        Ok((self.parameters[0].var.matmul(&x)? - y)?.sqr()?.sum_all()?)
    }

    fn validate(&self, _: &dyn Interrupt) -> Result<Validation> {
        Ok(Validation {
            loss: f64::from(self.loss(&[], Noise::none())?.to_scalar::<f32>()?),
            scores: Vec::new(),
        })
    }

    fn identity(&self) -> String {
        "squares".into()
    }
}

fn adapter(base: &Squares) -> AdapterTask<'_> {
    let options = AdapterOptions { rank: 1, alpha: 2.0, targets: vec!["q".into()] };
    AdapterTask::new(base, &options, &["table.q"], "digest".into(), 3).unwrap()
}

/// By hand: W·x = (−0.75, 0.5), so that the loss is 1.75² + 1.5², and its gradient by W is G = 2·(−1.75, 1.5)ᵀ·x. With s = 2 that by A is
/// s·Bᵀ·G, zero while B is, and by B it is s·G·Aᵀ.
#[test]
fn the_gradients_of_both_factors_follow_from_that_of_the_weight() {
    let base = Squares::new();
    let task = adapter(&base);
    let names: Vec<&str> = task.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    let key = |part: &str| format!("base_model.model.layer.q.lora_{part}.weight");
    assert_eq!(names, [key("A"), key("B")], "the table has no adapter");
    let (a, b) = (&task.parameters()[0].var, &task.parameters()[1].var);
    let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(of(b), [0.0, 0.0]);
    assert!(of(a).iter().all(|value| *value != 0.0 && value.abs() <= 1.0 / 3f32.sqrt()));

    a.set(&Tensor::new(&[[1f32, -1.0, 0.5]], &Device::Cpu).unwrap()).unwrap();
    let loss = task.loss(&[], Noise::none()).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 1.75 * 1.75 + 1.5 * 1.5);
    let gradients = loss.backward().unwrap();
    assert_eq!(of(gradients.get(a).unwrap()), [0.0; 3]);
    // x·Aᵀ = 1 − 2 + 1.5 = 0.5.
    assert_eq!(of(gradients.get(b).unwrap()), [2.0 * 2.0 * -1.75 * 0.5, 2.0 * 2.0 * 1.5 * 0.5]);

    // B = (1, −1) adds ±2·A: W·x = (−0.75 + 1, 0.5 − 1).
    b.set(&Tensor::new(&[[1f32], [-1.0]], &Device::Cpu).unwrap()).unwrap();
    let loss = task.loss(&[], Noise::none()).unwrap();
    assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.75 * 0.75 + 0.5 * 0.5);
    let by_a = of(loss.backward().unwrap().get(a).unwrap());
    let expected = [1.0, 2.0, 3.0].map(|x| 2.0 * (2.0 * -0.75 - 2.0 * 0.5) * x);
    assert_eq!(by_a, expected);
}

#[test]
fn the_base_stays_below_its_adapter() {
    let base = Squares::new();
    let (weight, table) = (base.values(0), base.values(1));
    let task = adapter(&base);
    let b = &task.parameters()[1].var;
    b.set(&Tensor::new(&[[1f32], [-1.0]], &Device::Cpu).unwrap()).unwrap();
    task.merge().unwrap();
    let merged = base.values(0);
    task.merge().unwrap();
    assert_eq!(base.values(0), merged, "an adapter is not added twice");
    assert_ne!(merged, weight);
    b.set(&Tensor::zeros((2, 1), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
    task.merge().unwrap();
    assert_eq!((base.values(0), base.values(1)), (weight, table));
}
