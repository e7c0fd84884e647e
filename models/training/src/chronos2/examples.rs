//! From panels to what the network is trained on: random context, horizon, columns and gaps.

use crate::{Panel, Window};
use kronos_job::chronos2::ExampleRule;
use kronos_models::chronos2::normalise::Scaling;
use kronos_models::chronos2::{Group, Variate};
use kronos_models::random::Stream;

/// One group of variates and what came after their histories.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Histories, normalised; known futures of covariates.
    pub group: Group,
    /// The future of each variate in the same space; NaN where it is missing, empty for a covariate.
    pub actual: Vec<Vec<f32>>,
    /// What the losses of each variate count.
    pub weight: Vec<f32>,
}

/// The horizon of the batch whose first draw is `draw`.
pub fn horizon_of(rule: &ExampleRule, draw: u64) -> usize {
    1 + pick(uniform(draw, 0), rule.horizon)
}

/// The example of a draw; what is random about it is a function of the draw's number.
pub fn example(
    rule: &ExampleRule,
    panel: &Panel,
    window: Window,
    draw: u64,
    horizon: usize,
    arcsinh: bool,
) -> Example {
    let (least, most) = (rule.least_context as f64, rule.context as f64);
    let context = (least * (most / least).powf(uniform(draw, 1))).round() as usize;
    let mut example = Example { group: Vec::new(), actual: Vec::new(), weight: Vec::new() };
    let gappy = uniform(draw, 2) < rule.gaps;
    let mut push = |column: usize, role: Role| {
        let mut history = window.context(panel, column, context).to_vec();
        if gappy {
            let missing = |row: usize| uniform(draw, 100 + row as u32 * 8 + column as u32) < 0.1;
            history.iter_mut().enumerate().filter(|(row, _)| missing(*row)).for_each(|(_, v)| *v = f64::NAN);
        }
        let scaling = Scaling::of(&history, arcsinh);
        let apply = |values: &[f64]| values.iter().map(|&value| scaling.apply(value)).collect::<Vec<_>>();
        let future = apply(window.future(panel, column, horizon));
        let (known, actual) = match role {
            Role::Target => (Vec::new(), future),
            Role::Past => (Vec::new(), Vec::new()),
            Role::Known => (future, Vec::new()),
        };
        let context = apply(&history);
        example.weight.push(if rule.per_move { move_weight(&context) } else { 1.0 });
        example.group.push(Variate { context, future: known, wanted: role == Role::Target });
        example.actual.push(actual);
    };
    if uniform(draw, 3) >= rule.groups {
        push(rule.targets[pick(uniform(draw, 4), rule.targets.len())], Role::Target);
        return example;
    }
    let first = pick(uniform(draw, 5), rule.grouped.len());
    push(rule.grouped[first], Role::Target);
    for (index, &column) in rule.grouped.iter().enumerate() {
        let role = pick(uniform(draw, 10 + index as u32), 4);
        if index != first && role < 3 {
            push(column, [Role::Target, Role::Past, Role::Known][role]);
        }
    }
    example
}

/// The inverse of the mean move over the last values of a normalised history, relative to that of a random walk of 256
/// values, whose deviation is about 6.5 moves; bounded, for a history may have stood still.
fn move_weight(history: &[f32]) -> f32 {
    const MOVES: usize = 32;
    const TYPICAL: f32 = 0.12;
    let late = &history[history.len().saturating_sub(MOVES + 1)..];
    let moves = late.windows(2).map(|pair| (pair[1] - pair[0]).abs()).filter(|moved| !moved.is_nan());
    let (sum, count) = moves.fold((0.0, 0.0), |(sum, count), moved| (sum + moved, count + 1.0));
    if sum > 0.0 { (TYPICAL * count / sum).clamp(0.2, 5.0) } else { 1.0 }
}

/// What a column of a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Target,
    Past,
    Known,
}

/// Key of the stream that examples are drawn from; a run's own seed decides which windows are drawn.
const EXAMPLES: u64 = 0x0063_6872_6F6E_6F73;

fn uniform(draw: u64, what: u32) -> f64 {
    Stream::from_key(EXAMPLES).uniform(draw as u32, (draw >> 32) as u32, what)
}

/// One of `count` by a uniform number.
fn pick(uniform: f64, count: usize) -> usize {
    ((uniform * count as f64) as usize).min(count - 1)
}
