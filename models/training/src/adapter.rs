//! Training of a low-rank adapter, whatever the network: the weights of the task stay as they are, and a product of two small
//! matrices is added to some of them.
//!
//! No network knows of it. Before each pass the merged weights are put into the task's own variables, and its loss is differentiated by
//! them; the gradients of the two factors follow by the chain rule. A pass costs what it costs without an adapter.

use crate::artifact::{parameters, pretty, safetensors};
use crate::error::{Result, invalid};
use crate::layers::{Initial, Parameters};
use crate::{Noise, Parameter, Pick, Trainable, Validation};
use candle_core::{Tensor, Var};
use kronos_job::AdapterOptions;
use kronos_models::adapter::{AdapterConfig, CONFIG, Module, WEIGHTS};
use kronos_models::artifact::TensorSpec;
use kronos_models::interrupt::Interrupt;

/// Folder of an adapter within an artifact.
const FOLDER: &str = "adapter";

/// A task of which an adapter is trained, and nothing else.
pub struct AdapterTask<'t> {
    base: &'t dyn Trainable,
    config: AdapterConfig,
    adapted: Vec<Adapted>,
    /// A and B of each module.
    parameters: Vec<Parameter>,
}

/// A weight with its adapter.
struct Adapted {
    module: Module,
    weight: Var,
    /// The weight without the adapter.
    start: Vec<f32>,
    a: Var,
    b: Var,
}

impl<'t> AdapterTask<'t> {
    /// An adapter of the weights that `base` has now, whose file has the digest `base_sha256`; `tables` are ends of the names of
    /// matrices that are no linear maps. A is drawn by `seed`, B is zero: the first pass is that of the base.
    ///
    /// # Errors
    /// `InvalidParameter` for targets that no weight is called by, and for a rank above the size of a weight.
    pub fn new(
        base: &'t dyn Trainable,
        options: &AdapterOptions,
        tables: &[&str],
        base_sha256: String,
        seed: i64,
    ) -> Result<Self> {
        let config = AdapterConfig::new(options.rank, options.alpha, &options.targets, Some(base_sha256));
        let spec = |parameter: &Parameter| TensorSpec::required(&parameter.name, parameter.var.dims());
        let specs: Vec<TensorSpec> = base.parameters().iter().map(spec).collect();
        let mut adapted = Vec::new();
        for module in config.modules(&specs, tables)? {
            let name = format!("{}.weight", module.name);
            let Some(weight) = base.parameters().iter().find(|parameter| parameter.name == name) else {
                return Err(invalid("adapter.targets", "names of weights", name));
            };
            let weight = weight.var.clone();
            let start = weight.flatten_all()?.to_vec1()?;
            // Kaiming's bound with the slope √5 that PEFT draws A with.
            let bound = 1.0 / (module.shape.1 as f32).sqrt();
            let initial = |spec: &TensorSpec| match spec.name == module.key("A") {
                true => Initial::Uniform(bound),
                false => Initial::Constant(0.0),
            };
            let drawn = Parameters::initialise(&module.specs(), initial, seed as u64, weight.device())?;
            let var = |part: &str| drawn.variables()[&module.key(part)].clone();
            adapted.push(Adapted { weight, start, a: var("A"), b: var("B"), module });
        }
        let both = |of: &Adapted| {
            [("A", &of.a), ("B", &of.b)].map(|(part, var)| Parameter::new(of.module.key(part), var.clone()))
        };
        let parameters = adapted.iter().flat_map(both).collect();
        Ok(Self { base, config, adapted, parameters })
    }

    /// Puts the weights with the adapter as it is now into the task's variables.
    ///
    /// # Errors
    /// A backend error.
    pub fn merge(&self) -> Result<()> {
        for Adapted { module, weight, start, a, b } in &self.adapted {
            let mut merged = start.clone();
            module.add(&mut merged, &a.flatten_all()?.to_vec1()?, &b.flatten_all()?.to_vec1()?);
            weight.set(&Tensor::from_vec(merged, weight.shape(), weight.device())?)?;
        }
        Ok(())
    }

    /// The files of the adapter within an artifact.
    ///
    /// # Errors
    /// A backend error.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let weights = safetensors(&parameters(&self.parameters)?)?;
        Ok(vec![
            (format!("{FOLDER}/{CONFIG}"), pretty(&self.config)?),
            (format!("{FOLDER}/{WEIGHTS}"), weights),
        ])
    }
}

impl Trainable for AdapterTask<'_> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor> {
        self.merge()?;
        let loss = self.base.loss(picks, noise)?;
        let mut gradients = loss.backward()?;
        let mut linked = loss.detach();
        for Adapted { module, weight, a, b, .. } in &self.adapted {
            let Some(gradient) = gradients.remove(weight) else { continue };
            // With G the gradient by the merged weight, that of Σ G·(s·B·A) by A and B is the gradient of the loss by them. The sum itself
            // is taken away again.
            let product = (b.matmul(a)? * module.scale)?;
            let sum = (gradient.detach() * product)?.sum_all()?;
            linked = (linked + (&sum - sum.detach())?)?;
        }
        Ok(linked)
    }

    fn validate(&self, interrupt: &dyn Interrupt) -> Result<Validation> {
        self.merge()?;
        self.base.validate(interrupt)
    }

    fn identity(&self) -> String {
        format!("{} {:?}", self.base.identity(), self.config)
    }
}
