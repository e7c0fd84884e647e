//! The cases: from bars to a forecast, alone and in a batch, freely drawn or with the reference's tokens.

use super::case::{Case, Expected};
use super::folder::{Set, cases, flat, json, tensors};
use super::report::{self, Report};
use candle_core::Tensor;
use kronos_models::bars::{Bar, BarOptions, BarRequest, Sampling, Window, cohere};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::kronos::Kronos;
use kronos_models::kronos::normalise::Stats;
use kronos_models::kronos::replay::Replay;
use kronos_models::kronos::sampling::filter_probabilities;
use kronos_models::kronos::tokenizer::Token;
use std::collections::HashMap;

/// Tolerances of the README of the golden vectors.
const LOGITS: f64 = 1e-4;
const PROBABILITIES: f64 = 1e-5;
const HIDDEN: f64 = 3e-5;
const DECODED: f64 = 3e-5;

/// Half a unit of the price is allowed for rounding, the rest in units of the standard deviation.
pub fn pred_tolerance(std: f32, expected: f32) -> f64 {
    2e-5 * (f64::from(std) + 1e-5) + 5e-7 * f64::from(expected).abs()
}

pub fn run(set: &Set, report: &mut Report) {
    for path in cases(&set.path) {
        let case: Case = json(&path);
        let golden = tensors(&path.with_extension("safetensors"));
        let settings = &case.case;
        let (max_context, name) = (settings.max_context, settings.name.clone());
        let options = BarOptions {
            samples: settings.sample_count,
            sampling: settings.sampling(),
            window: Window::Slide,
            memory_limit: 4 << 30,
        };
        let greedy = settings.is_greedy();
        let series = case.into_series(&set.folder);
        for (by, kronos) in set.models(max_context) {
            for (i, (request, expected)) in series.iter().enumerate() {
                let name = match series.len() {
                    1 => format!("{name}{by}"),
                    _ => format!("{name}{by}, series {i}"),
                };
                let mut one =
                    One { golden: &golden, series: i, case: report.case(&set.name, &name), kronos: &kronos };
                let generated = expected.generated();
                let forced = (!greedy).then_some(generated.as_slice());
                one.context(request, expected);
                let replay = kronos.replay(request, &options, forced, &NeverInterrupt).unwrap();
                if golden.contains_key("s1_logits") {
                    one.windows(&replay);
                } else {
                    one.excerpts(request, &replay);
                }
                if greedy {
                    one.case.equal("generated tokens", &replay.tokens.concat(), &generated.concat());
                }
                one.forecast(&replay, expected);
            }
            let mut case = report.case(&set.name, &format!("{name}{by}"));
            if greedy {
                product(&kronos, &options, &series, &mut case);
            } else {
                probabilities(&options.sampling, &golden, &mut case);
            }
        }
    }
}

/// One series of a case.
struct One<'g> {
    golden: &'g HashMap<String, Tensor>,
    series: usize,
    case: report::Case<'g>,
    kronos: &'g Kronos,
}

impl One<'_> {
    fn expected(&self, stage: &str) -> Vec<f32> {
        flat(&self.golden[stage].get(self.series).unwrap())
    }

    /// Statistics and tokens of the whole context, also of bars that no longer fit the window.
    fn context(&mut self, request: &BarRequest, expected: &Expected) {
        let stats = Stats::of(&request.bars);
        self.case.equal("x_mean", &stats.mean, &expected.x_mean);
        self.case.equal("x_std", &stats.std, &expected.x_std);
        let x = stats.normalise(&request.bars);
        if self.golden.contains_key("x") {
            self.case.equal("x", x.as_flattened(), &self.expected("x"));
        }
        let Some(tokenizer) = self.kronos.tokenizer() else { return };
        let tokens = tokenizer.encode(&x, &NeverInterrupt).unwrap();
        let part = |part: fn(&Token) -> u16| tokens.iter().map(part).collect::<Vec<_>>();
        self.case.equal("context_s1", &part(|token| token.s1), &expected.context_s1);
        self.case.equal("context_s2", &part(|token| token.s2), &expected.context_s2);
    }

    /// Files with everything: logits of each step and the decoded window.
    fn windows(&mut self, replay: &Replay) {
        for (stage, logits) in [("s1_logits", &replay.s1_logits), ("s2_logits", &replay.s2_logits)] {
            self.case.close(stage, &logits.concat().concat(), &self.expected(stage), LOGITS);
        }
        let decoded = replay.decoded.concat();
        self.case.close("decoded_window", decoded.as_flattened(), &self.expected("decoded_window"), DECODED);
    }

    /// Files of the large sets, for one series and one path: first and last step, and the newest hidden state of each block.
    fn excerpts(&mut self, request: &BarRequest, replay: &Replay) {
        let window = self.kronos.max_context().min(request.bars.len());
        let stamps = &request.stamps[request.bars.len() - window..request.bars.len()];
        let mut hidden = Vec::new();
        let mut see = |stage: &str, got: &Tensor| {
            let is_block =
                stage.strip_prefix("pred.block.").is_some_and(|rest| rest.parse::<usize>().is_ok());
            if is_block {
                hidden.extend(flat(&got.get(window - 1).unwrap()));
            }
        };
        if let Some(predictor) = self.kronos.predictor() {
            predictor.forward_observed(&replay.context, stamps, &NeverInterrupt, &mut see).unwrap();
            let block = "block_last_hidden_step0";
            self.case.close(block, &hidden, &flat(&self.golden[block]), HIDDEN);
        }
        for (part, logits) in [("s1", &replay.s1_logits[0]), ("s2", &replay.s2_logits[0])] {
            for (step, logits) in [("step0", logits.first()), ("last", logits.last())] {
                let stage = format!("{part}_logits_{step}");
                self.case.close(&stage, logits.unwrap(), &flat(&self.golden[&stage]), LOGITS);
            }
        }
        let decoded = &replay.decoded[0];
        let forecast = decoded[decoded.len() - request.horizon..].as_flattened();
        self.case.close("pred_norm", forecast, &flat(&self.golden["pred_norm"]), DECODED);
    }

    fn forecast(&mut self, replay: &Replay, expected: &Expected) {
        let pred = expected.pred();
        let tolerance = |i: usize| pred_tolerance(expected.x_std[i % 6], pred[i]);
        self.case.close_by("pred", replay.mean.as_flattened(), &pred, tolerance);
    }
}

/// The reference's logits through our filter against its probabilities, all series and paths at once.
fn probabilities(sampling: &Sampling, golden: &HashMap<String, Tensor>, case: &mut report::Case<'_>) {
    for part in ["s1", "s2"] {
        let logits = &golden[&format!("{part}_logits")];
        let vocabulary = logits.dims()[logits.rank() - 1];
        let rows = flat(logits);
        let got: Vec<f32> =
            rows.chunks_exact(vocabulary).flat_map(|row| filter_probabilities(row, sampling)).collect();
        let stage = format!("{part}_probs");
        case.close(&stage, &got, &flat(&golden[&stage]), PROBABILITIES);
    }
}

/// The forecast as the product gives it: all series in one call, each bar made coherent.
fn product(
    kronos: &Kronos,
    options: &BarOptions,
    series: &[(BarRequest, Expected)],
    case: &mut report::Case<'_>,
) {
    let requests: Vec<BarRequest> = series.iter().map(|(request, _)| request.clone()).collect();
    let answers = kronos.forecast(&requests, options, &NeverInterrupt).unwrap();
    let (mut got, mut pred, mut tolerances) = (Vec::new(), Vec::new(), Vec::new());
    for (answer, (_, expected)) in answers.into_iter().zip(series) {
        got.extend(answer.unwrap().bars.as_flattened().iter().map(|&value| value as f32));
        for row in expected.pred().chunks_exact(6) {
            let mut bar: Bar = std::array::from_fn(|channel| f64::from(row[channel]));
            let own: [f64; 6] =
                std::array::from_fn(|channel| pred_tolerance(expected.x_std[channel], row[channel]));
            // High and low may be taken from any of the four prices.
            let price = own[..4].iter().copied().fold(0.0, f64::max);
            cohere(&mut bar);
            pred.extend(bar.map(|value| value as f32));
            tolerances.extend([price, price, price, price, own[4], own[5]]);
        }
    }
    case.close_by("forecast, coherent", &got, &pred, |i| tolerances[i]);
}
