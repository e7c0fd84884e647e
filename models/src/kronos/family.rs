//! Kronos as a family: two directories, six channels, a batch that is decoded step by step.

use super::batch::{self, Batch};
use super::{Kronos, KronosFiles};
use crate::answer::Paths;
use crate::ask::{Ask, Terms};
use crate::bars::{BarOptions, BarRequest, CHANNEL_NAMES};
use crate::error::{ModelError, Result};
use crate::family::{
    Answers, CONFIG, Capabilities, ContextRange, Description, Directory, Facts, Family, Files, Misplaced,
    Part, Settings, Takes, WEIGHTS, missing,
};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::model::{self, Cost, Entrant, Model, SeriesId, Stepping, Work};
use candle_core::Device;
use serde_json::{Map, Value};

/// Name of the family.
const NAME: &str = "kronos";

/// The directory of the predictor, in settings and in a published model.
const PREDICTOR: &str = "predictor";

/// The directory of the tokenizer, likewise, and the option that names another one.
const TOKENIZER: &str = "tokenizer";

/// The option that gives the digest of its weights.
const TOKENIZER_DIGEST: &str = "tokenizer_sha256";

/// Longest window a model can be registered with; far above any published one, it bounds what inference allocates.
const MAX_CONTEXT: usize = 65_536;

/// Sample paths of bars.
#[derive(Debug)]
pub struct KronosFamily;

const FACTS: Facts = Facts {
    name: NAME,
    title: "a Kronos model",
    function: "kronos_predict",
    subdirectory: Some(PREDICTOR),
    directories: &[PREDICTOR, TOKENIZER],
    parts: &[Part { option: TOKENIZER, digest: Some(TOKENIZER_DIGEST) }],
};

impl Family for KronosFamily {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    /// A predictor has bits for two tokens and layers of its own; a tokenizer has encoder and decoder layers instead.
    fn recognises(&self, config: &Value) -> bool {
        ["s1_bits", "s2_bits", "d_model", "n_layers"].iter().all(|key| config.get(key).is_some())
    }

    fn describe(&self, directory: &Directory<'_>) -> Result<Description, Misplaced> {
        let predictor = directory.of_config(FACTS.subdirectory);
        let tokenizer = match directory.parts.get(TOKENIZER) {
            Some(other) => other.clone(),
            None => directory.path.join(TOKENIZER),
        };
        let config: Value = directory.config(&predictor)?;
        if config.get("n_enc_layers").is_some() {
            return Err(Misplaced::Directory("is a tokenizer, give the directory of the predictor"));
        }
        if !directory.has_config(&tokenizer) {
            return Err(Misplaced::Part {
                option: TOKENIZER,
                path: (directory.locate)(&tokenizer),
                why: "A Kronos model needs the tokenizer it was trained with.",
                example: "Kronos-Tokenizer-base",
            });
        }
        let number = |key| config.get(key).and_then(Value::as_u64);
        // The files do not say the window. Of the published models only Kronos-mini, the one of this shape, has 2048.
        let mini = (number("d_model"), number("n_layers")) == (Some(256), Some(4));
        let published = if mini { 2048 } else { 512 };
        let weights = predictor.join(WEIGHTS);
        Ok(Description {
            settings: Map::new(),
            context: ContextRange { own: published, least: 2, most: MAX_CONTEXT },
            files: vec![
                (predictor.join(CONFIG), None),
                (weights.clone(), None),
                (tokenizer.join(CONFIG), None),
                (tokenizer.join(WEIGHTS), Some(TOKENIZER_DIGEST)),
            ],
            weights,
            directories: vec![(PREDICTOR, predictor), (TOKENIZER, tokenizer)],
        })
    }

    fn capabilities(&self, settings: &Settings) -> Option<Capabilities> {
        Some(Capabilities {
            answers: Answers::Paths,
            takes: Takes::Channels(&CHANNEL_NAMES),
            max_context: settings.max_context()?,
            runs_on_gpus: true,
        })
    }

    fn load(&self, files: &Files, place: Option<&Place>) -> Result<Box<dyn Model>> {
        let files = KronosFiles {
            predictor: files.directory(PREDICTOR)?.to_path_buf(),
            tokenizer: files.directory(TOKENIZER)?.to_path_buf(),
            max_context: files.settings.max_context().ok_or_else(|| missing("max_context"))?,
        };
        Ok(Box::new(match place {
            Some(place) => Kronos::load_accelerated(&files, place)?,
            None => Kronos::load(&files, &Device::Cpu)?,
        }))
    }
}

impl Model for Kronos {
    fn memory_bytes(&self) -> u64 {
        self.memory_bytes()
    }

    fn work(&self) -> Work<'_> {
        Work::Steps(self)
    }
}

/// An ask as the network reads it.
fn encode(ask: &Ask, terms: &Terms, memory: u64) -> Result<(BarRequest, BarOptions)> {
    if ask.covariates() > 0 {
        return Err(ModelError::Unsupported { family: NAME, capability: "covariates".into() });
    }
    Ok((BarRequest::of(ask, terms.context)?, terms.drawing(NAME)?.options(memory)?))
}

impl Stepping for Kronos {
    fn least_bytes(&self) -> u64 {
        let positions = self.max_context;
        2 * (self.network.cache_bytes(positions) + self.network.decoder_cache_bytes(positions))
    }

    fn cost(&self, ask: &Ask, terms: &Terms, memory: u64) -> Result<Cost> {
        let (request, options) = encode(ask, terms, memory)?;
        let plan = self.plan(&request, &options)?;
        Ok(Cost { rows: plan.wave, bytes: plan.bytes })
    }

    fn batch(&self) -> Box<dyn model::Batch + '_> {
        Box::new(Batch::new(self))
    }
}

impl model::Batch for Batch<'_> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn rows(&self) -> usize {
        self.rows()
    }

    fn progress(&self, id: SeriesId) -> Option<(usize, usize)> {
        self.progress(id)
    }

    fn remove(&mut self, id: SeriesId) {
        self.remove(id);
    }

    fn admit(
        &mut self,
        entrants: &[Entrant<'_>],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<SeriesId>>> {
        let encoded: Vec<Result<(BarRequest, BarOptions)>> =
            entrants.iter().map(|entrant| encode(entrant.ask, entrant.terms, entrant.memory)).collect();
        let together: Vec<(&BarRequest, BarOptions)> =
            encoded.iter().flatten().map(|(request, options)| (request, *options)).collect();
        let mut admitted = self.admit_all(&together, interrupt)?.into_iter();
        // One for each that was encoded; its absence would be a defect and is reported as one.
        let mut next = || admitted.next().unwrap_or(Err(ModelError::Cancelled));
        Ok(encoded.into_iter().map(|encoded| encoded.and_then(|_| next())).collect())
    }

    fn steps(&mut self, most: usize, interrupt: &dyn Interrupt) -> Result<usize> {
        self.steps(most, interrupt)
    }

    fn finished(&mut self, interrupt: &dyn Interrupt) -> Result<Vec<model::Complete>> {
        let boxed = |finished: batch::Finished| Box::new(finished) as Box<dyn model::Finished>;
        let finished = self.take_finished(interrupt)?;
        Ok(finished.into_iter().map(|(id, finished)| (id, finished.map(boxed))).collect())
    }
}

impl model::Finished for batch::Finished {
    fn into_paths(self: Box<Self>) -> Result<Paths> {
        (*self).into_paths().map(Paths::from)
    }
}
