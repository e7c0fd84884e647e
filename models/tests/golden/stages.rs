//! `stages.safetensors`: every intermediate tensor of a few windows.

use super::case::Case;
use super::folder::{Half, Set, cases, flat, json, tensors};
use super::report::{self, Report};
use candle_core::{DType, Tensor};
use kronos_models::bars::{Bar, Stamp};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::config::TokenizerConfig;
use kronos_models::kronos::normalise::Stats;
use kronos_models::kronos::tokenizer::{Token, Tokenizer};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// Stages of training and of its validation; inference has none of them.
fn is_training(stage: &str) -> bool {
    stage.starts_with("train.")
        || matches!(stage, "pred.tf_targets" | "pred.s2_logits_tf_eval" | "tok.recon_s1_only")
}

/// Absolute tolerance of a stage, from the README of the golden vectors.
fn tolerance(stage: &str) -> f64 {
    match stage {
        // Not measured there: constants ±1/sqrt(bits), one rounding each.
        "tok.bits" => 1e-7,
        "tok.latent_unit" => 5e-6,
        "pred.s1_logits" | "pred.s2_logits" => 1e-4,
        "tok.embed" | "tok.quant_embed" => 5e-5,
        _ if stage.starts_with("tok.encoder") => 5e-5,
        _ => 3e-5,
    }
}

pub fn run(set: &Set, report: &mut Report) {
    let file = set.path.join("stages.safetensors");
    if !file.is_file() {
        return;
    }
    let golden = tensors(&file);
    let windows = golden["in.x"].dim(0).unwrap();
    for window in 0..windows {
        let name = format!("stages, window {window}");
        let stages =
            Window { golden: &golden, window, case: report.case(&set.name, &name), shown: BTreeSet::new() };
        stages.run(set);
    }
}

struct Window<'g> {
    golden: &'g HashMap<String, Tensor>,
    window: usize,
    case: report::Case<'g>,
    /// Stages compared, to find those the model never showed.
    shown: BTreeSet<String>,
}

impl Window<'_> {
    fn expected(&self, stage: &str) -> Tensor {
        self.golden[stage].get(self.window).unwrap()
    }

    fn integers(&self, stage: &str) -> Vec<i64> {
        self.expected(stage).flatten_all().unwrap().to_vec1().unwrap()
    }

    fn exact<T: PartialEq + std::fmt::Debug>(&mut self, stage: &str, got: &[T], expected: &[T]) {
        self.case.equal(stage, got, expected);
        self.shown.insert(stage.into());
    }

    fn exact_floats(&mut self, stage: &str, got: &[f32]) {
        let expected = flat(&self.expected(stage));
        self.exact(stage, got, &expected);
    }

    /// Compares what the model shows with the golden tensor of the same name; stages without one are free.
    fn see(&mut self, stage: &str, got: &Tensor) {
        if !self.golden.contains_key(stage) {
            return;
        }
        let expected = self.expected(stage);
        if got.elem_count() != expected.elem_count() {
            let reason = format!("shape {:?}, expected {:?}", got.dims(), expected.dims());
            self.case.fail(stage, reason);
        } else if expected.dtype() == DType::I64 {
            let got: Vec<i64> = got.flatten_all().unwrap().to_vec1().unwrap();
            let expected = self.integers(stage);
            self.case.equal(stage, &got, &expected);
        } else {
            self.case.close(stage, &flat(got), &flat(&expected), tolerance(stage));
        }
        self.shown.insert(stage.into());
    }

    fn run(mut self, set: &Set) {
        let raw: Vec<Vec<f64>> = self.expected("in.raw_f64").to_vec2().unwrap();
        let bars: Vec<Bar> = raw.into_iter().map(|row| row.try_into().unwrap()).collect();
        let stats = Stats::of(&bars);
        self.exact_floats("in.mean", &stats.mean);
        self.exact_floats("in.std", &stats.std);
        self.exact_floats("in.z_unclipped", stats.standardise(&bars).as_flattened());
        let x = stats.normalise(&bars);
        self.exact_floats("in.x", x.as_flattened());

        let tokenizer = set.tokenizer();
        let tokens = tokenizer
            .encode_observed(&x, &NeverInterrupt, &mut |stage: &str, got: &Tensor| self.see(stage, got))
            .unwrap();
        let s1_bits = set.tokenizer.config.s1_bits;
        let part =
            |part: fn(&Token) -> u16| tokens.iter().map(|token| i64::from(part(token))).collect::<Vec<_>>();
        let (s1, s2) = (part(|token| token.s1), part(|token| token.s2));
        let full: Vec<i64> = s1.iter().zip(&s2).map(|(s1, s2)| s1 + (s2 << s1_bits)).collect();
        for (stage, got) in [("tok.s1", &s1), ("tok.s2", &s2), ("tok.full", &full)] {
            let expected = self.integers(stage);
            self.exact(stage, got, &expected);
        }

        // From here on the reference's tokens, so that a flipped bit is reported once.
        let tokens: Vec<Token> = self
            .integers("tok.s1")
            .into_iter()
            .zip(self.integers("tok.s2"))
            .map(|(s1, s2)| Token { s1: s1 as u16, s2: s2 as u16 })
            .collect();
        tokenizer.decode_observed(&tokens, &NeverInterrupt, &mut |stage, got| self.see(stage, got)).unwrap();

        let stamps: Vec<Stamp> = self.integers("in.stamp").chunks_exact(5).map(stamp).collect();
        self.shown.insert("in.stamp".into());
        self.shown.insert("in.raw_f64".into());
        set.predictor()
            .forward_observed(&tokens, &stamps, &NeverInterrupt, &mut |stage, got| self.see(stage, got))
            .unwrap();

        let all: BTreeSet<&String> = self.golden.keys().filter(|stage| !is_training(stage)).collect();
        for stage in all {
            if !self.shown.contains(stage) {
                self.case.fail(stage, "the model does not show this stage".into());
            }
        }
    }
}

fn stamp(fields: &[i64]) -> Stamp {
    let field = |i: usize| u8::try_from(fields[i]).unwrap();
    Stamp { minute: field(0), hour: field(1), weekday: field(2), day: field(3), month: field(4) }
}

/// The tokenizer that gives the tokens of the set's first case; the only one there is needs no proof.
pub fn recognise(
    set: &Path,
    folder: &Path,
    mut tokenizers: Vec<Half<TokenizerConfig>>,
) -> Option<Half<TokenizerConfig>> {
    if tokenizers.len() < 2 {
        return tokenizers.pop();
    }
    let case: Case = json(cases(set).first()?);
    let (request, expected) = case.into_series(folder).into_iter().next()?;
    let x = Stats::of(&request.bars).normalise(&request.bars);
    let at = tokenizers.iter().position(|half| {
        let tokenizer = Tokenizer::new(&half.config, &half.tensors).unwrap();
        let tokens = tokenizer.encode(&x, &NeverInterrupt).unwrap();
        tokens.iter().map(|token| token.s1).eq(expected.context_s1.iter().copied())
    })?;
    Some(tokenizers.swap_remove(at))
}
