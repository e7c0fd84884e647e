//! Every intermediate tensor of a few rows.

use super::folder::{Case, Golden, flat, wide};
use super::predict::Tolerance;
use super::report;
use candle_core::Tensor;
use kronos_models::chronos2::normalise::Scaling;
use kronos_models::chronos2::{Chronos2, Group, Variate};
use std::collections::{BTreeSet, HashMap};

/// Rows of the golden tensors in the order of the network: group by group.
struct Order {
    groups: Vec<Vec<usize>>,
    /// Golden row of each of the network's rows.
    rows: Vec<usize>,
}

impl Order {
    fn of(ids: &[i64]) -> Self {
        let mut groups: Vec<(i64, Vec<usize>)> = Vec::new();
        for (row, &id) in ids.iter().enumerate() {
            match groups.iter_mut().find(|(other, _)| *other == id) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((id, vec![row])),
            }
        }
        let groups: Vec<Vec<usize>> = groups.into_iter().map(|(_, rows)| rows).collect();
        Self { rows: groups.concat(), groups }
    }
}

/// Stages of a pass by name, and which token each of their rows is: (golden row, position).
pub struct Shown {
    pub stages: HashMap<String, Tensor>,
    pub tokens: Vec<(usize, usize)>,
}

impl Shown {
    pub fn new(stages: HashMap<String, Tensor>, rows: &[usize], patches: usize) -> Self {
        let integers = |name: &str| stages[name].to_vec1::<i64>().unwrap();
        let token = |(row, offset): (i64, i64)| (rows[row as usize], (patches as i64 + offset) as usize);
        let tokens = integers("token.row").into_iter().zip(integers("token.offset")).map(token).collect();
        Self { stages, tokens }
    }

    /// Compares rows of tokens with [row, position, width].
    pub fn compare(&self, stage: &str, golden: &Golden, noted: &mut report::Case) {
        let expected = &golden[&format!("out.{stage}")];
        let Some(got) = self.stages.get(stage) else {
            return noted.fail(stage, "the model does not show it".into());
        };
        let expected: Vec<Vec<Vec<f32>>> = expected.to_vec3().unwrap();
        let expected: Vec<f32> =
            self.tokens.iter().flat_map(|&(row, at)| expected[row][at].clone()).collect();
        noted.close_by(stage, &flat(got), &expected, |i| hidden(expected[i]));
    }

    /// The tokens of the golden mask are those of the network, no more and no fewer.
    pub fn compare_tokens(&self, golden: &Golden, noted: &mut report::Case) {
        let mask = golden["out.attention_mask"].to_vec2::<f32>().unwrap();
        let expected: BTreeSet<(usize, usize)> = mask
            .iter()
            .enumerate()
            .flat_map(|(row, mask)| (0..mask.len()).filter(|&at| mask[at] == 1.0).map(move |at| (row, at)))
            .collect();
        let got: Vec<_> = self.tokens.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        noted.equal("attention_mask", &got, &expected.into_iter().collect::<Vec<_>>());
    }
}

/// The tolerance of a hidden state.
pub fn hidden(expected: f32) -> f64 {
    5e-4 * (1.0 + f64::from(expected.abs()))
}

fn normalised(expected: f32) -> f64 {
    2e-4 * (1.0 + f64::from(expected.abs()))
}

/// Location and scale of each row beside the golden ones.
pub fn compare_scalings(scalings: &[Scaling], golden: &Golden, noted: &mut report::Case) {
    let (loc, scale) = (flat(&golden["out.loc"]), flat(&golden["out.scale"]));
    let got: Vec<f32> = scalings.iter().map(|scaling| scaling.loc as f32).collect();
    noted.close_by("loc", &got, &loc, |i| 1e-5 * f64::from(scale[i] + loc[i].abs()));
    let got: Vec<f32> = scalings.iter().map(|scaling| scaling.scale as f32).collect();
    noted.close_by("scale", &got, &scale, |i| 1e-5 * f64::from(scale[i]));
}

pub fn run(case: &Case, model: &Chronos2, golden: &Golden, noted: &mut report::Case) {
    let config = &model.config().chronos_config;
    let matrix = |name: &str| golden.get(name).map(|tensor| tensor.to_vec2::<f32>().unwrap());
    let tail = |row: &Vec<f32>| row[row.len().saturating_sub(config.context_length)..].to_vec();
    let contexts: Vec<Vec<f32>> = matrix("in.context").unwrap().iter().map(tail).collect();
    let masks: Option<Vec<Vec<f32>>> =
        matrix("in.context_mask").map(|masks| masks.iter().map(tail).collect());
    let futures = matrix("in.future_covariates").unwrap_or(vec![Vec::new(); contexts.len()]);
    let future_masks = matrix("in.future_covariates_mask");
    let ids = golden
        .get("in.group_ids")
        .map_or_else(|| (0..contexts.len() as i64).collect(), |ids| ids.to_vec1::<i64>().unwrap());

    let scalings: Vec<Scaling> =
        contexts.iter().map(|context| Scaling::of(&wide(context), config.use_arcsinh)).collect();
    compare_scalings(&scalings, golden, noted);
    let apply = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> {
        let row = |(row, scaling): (&Vec<f32>, &Scaling)| {
            row.iter().map(|&value| scaling.apply(value.into())).collect()
        };
        rows.iter().zip(&scalings).map(row).collect()
    };
    let (contexts, futures) = (apply(&contexts), apply(&futures));
    for (stage, got) in [("norm_context", &contexts), ("norm_future", &futures)] {
        if let Some(expected) = golden.get(&format!("out.{stage}")) {
            let present = |values: Vec<f32>| -> Vec<f32> {
                values.iter().map(|v| if v.is_nan() { 0.0 } else { *v }).collect()
            };
            let expected = present(flat(expected));
            noted.close_by(stage, &present(got.concat()), &expected, |i| normalised(expected[i]));
        }
    }

    // A mask takes values away after they have entered location and scale.
    let masked = |rows: Vec<Vec<f32>>, masks: &Option<Vec<Vec<f32>>>| -> Vec<Vec<f32>> {
        let Some(masks) = masks else { return rows };
        let keep = |(value, mask): (&f32, &f32)| if *mask > 0.0 { *value } else { f32::NAN };
        rows.iter().zip(masks).map(|(row, mask)| row.iter().zip(mask).map(keep).collect()).collect()
    };
    let (contexts, futures) = (masked(contexts, &masks), masked(futures, &future_masks));
    let order = Order::of(&ids);
    let variate =
        |&row: &usize| Variate { context: contexts[row].clone(), future: futures[row].clone(), wanted: true };
    let groups: Vec<Group> = order.groups.iter().map(|rows| rows.iter().map(variate).collect()).collect();

    let mut stages = HashMap::new();
    let outputs = model
        .network()
        .unwrap()
        .forward_observed(&groups, case.num_output_patches, &mut |name, tensor| {
            stages.insert(name.to_string(), tensor.clone());
        })
        .unwrap();
    let patches = contexts[0].len().div_ceil(model.config().patch());
    let shown = Shown::new(stages, &order.rows, patches);
    shown.compare_tokens(golden, noted);
    compare_patches(&shown, &order, patches, golden, noted);
    for index in 0.. {
        let stage = |name: &str| format!("block{index}.{name}");
        if !golden.contains_key(&format!("out.{}", stage("ff"))) {
            break;
        }
        ["time", "group", "ff"].iter().for_each(|name| shown.compare(&stage(name), golden, noted));
    }
    shown.compare("final_norm", golden, noted);
    compare_weights(&shown, &order, golden, noted);
    compare_outputs(&shown, &order, &outputs, &scalings, golden, noted);
}

fn compare_patches(shown: &Shown, order: &Order, patches: usize, golden: &Golden, noted: &mut report::Case) {
    shown.compare("input_embeds", golden, noted);
    let rows = |stage: &str| golden[&format!("out.{stage}")].to_vec3::<f32>().unwrap();
    // Histories: tokens before the separator.
    let histories: Vec<_> = shown.tokens.iter().filter(|(_, at)| *at < patches).collect();
    let take = |stage: &str| -> Vec<f32> {
        let expected = rows(stage);
        histories.iter().flat_map(|&&(row, at)| expected[row][at].clone()).collect()
    };
    let expected = take("patched_context");
    noted.close_by("patched_context", &flat(&shown.stages["patched_context"]), &expected, |i| {
        normalised(expected[i])
    });
    let (embedded, expected) =
        (shown.stages["input_embeds"].to_vec2::<f32>().unwrap(), take("embed_context"));
    let got: Vec<f32> = (0..shown.tokens.len())
        .filter(|&token| shown.tokens[token].1 < patches)
        .flat_map(|token| embedded[token].clone())
        .collect();
    noted.close_by("embed_context", &got, &expected, |i| hidden(expected[i]));
    for stage in ["patched_future", "embed_future"] {
        let expected = rows(stage);
        let expected: Vec<f32> = order.rows.iter().flat_map(|&row| expected[row].concat()).collect();
        noted.close_by(stage, &flat(&shown.stages[stage]), &expected, |i| hidden(expected[i]));
    }
}

/// Attention weights: of a token along its row, and of a token across its group.
fn compare_weights(shown: &Shown, order: &Order, golden: &Golden, noted: &mut report::Case) {
    let group_of = |row: usize| order.groups.iter().find(|rows| rows.contains(&row)).unwrap();
    for (stage, across) in [("attn_time_block0", false), ("attn_group_block0", true)] {
        let Some(expected) = golden.get(&format!("out.{stage}")) else { continue };
        let (_, heads, _, keys) = expected.dims4().unwrap();
        let queries = expected.dim(2).unwrap();
        let expected = flat(expected);
        let weight = |outer: usize, head: usize, query: usize, key: usize| {
            expected[((outer * heads + head) * queries + query) * keys + key]
        };
        let got = shown.stages[stage].to_vec3::<f32>().unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (token, &(row, at)) in shown.tokens.iter().enumerate() {
            let seen: Vec<usize> = if across {
                group_of(row).iter().copied().filter(|&other| shown.tokens.contains(&(other, at))).collect()
            } else {
                shown.tokens.iter().filter(|(other, _)| *other == row).map(|(_, at)| *at).collect()
            };
            for (head, weights) in got[token].iter().enumerate() {
                for (&key, &ours_of_key) in seen.iter().zip(weights) {
                    ours.push(ours_of_key);
                    theirs.push(if across { weight(at, head, row, key) } else { weight(row, head, at, key) });
                }
            }
        }
        noted.close_by(stage, &ours, &theirs, |i| hidden(theirs[i]));
    }
}

fn compare_outputs(
    shown: &Shown,
    order: &Order,
    outputs: &[Vec<f32>],
    scalings: &[Scaling],
    golden: &Golden,
    noted: &mut report::Case,
) {
    let raw = golden["out.output_raw"].to_vec3::<f32>().unwrap();
    let raw: Vec<f32> = order.rows.iter().flat_map(|&row| raw[row].concat()).collect();
    noted.close_by("output_raw", &flat(&shown.stages["output_raw"]), &raw, |i| hidden(raw[i]));
    let rows = |stage: &str| -> Vec<f32> {
        let expected = golden[&format!("out.{stage}")].to_vec3::<f32>().unwrap();
        order.rows.iter().flat_map(|&row| expected[row].concat()).collect()
    };
    let expected = rows("quantiles_norm");
    noted.close_by("quantiles_norm", &outputs.concat(), &expected, |i| normalised(expected[i]));
    let expected = rows("quantiles");
    let got: Vec<f32> = outputs
        .iter()
        .zip(&order.rows)
        .flat_map(|(output, &row)| output.iter().map(move |&z| scalings[row].invert(z) as f32))
        .collect();
    let (loc, scale) = (flat(&golden["out.loc"]), flat(&golden["out.scale"]));
    let tolerance = Tolerance { unrolled: false, noise: false };
    let per_row = outputs[0].len();
    noted.close_by("quantiles", &got, &expected, |i| {
        let row = order.rows[i / per_row];
        tolerance.at(expected[i], loc[row], scale[row])
    });
}
