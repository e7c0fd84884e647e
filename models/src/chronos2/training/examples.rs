//! From panels to what the network is trained on: random context, horizon, columns and gaps.

use crate::chronos2::normalise::Scaling;
use crate::chronos2::{Group, Variate};
use crate::random::Stream;
use crate::train::error::{Result, invalid};
use crate::train::{Panel, Window};
use serde::{Deserialize, Serialize};

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

/// How examples are made of windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleRule {
    /// Longest history.
    pub context: usize,
    /// Shortest history; lengths between are drawn evenly in their logarithm.
    pub least_context: usize,
    /// Longest forecast; every batch has its own, drawn evenly.
    pub horizon: usize,
    /// Columns that can be a target alone, by position; drawn evenly.
    pub targets: Vec<usize>,
    /// Columns that a group is made of.
    pub grouped: Vec<usize>,
    /// Share of examples that are groups; each other column of such a group is a target, a covariate of the past or a
    /// covariate whose future is known, with equal chances.
    pub groups: f64,
    /// Share of examples of which a tenth of the history is missing.
    pub gaps: f64,
    /// Whether losses count in units of the variate's own moves of late. Without it they count in standard deviations of
    /// the history, in which the moves of a series that has gone far are small, and so is what is learnt of them.
    #[serde(default)]
    pub per_move: bool,
}

impl ExampleRule {
    /// Checks the numbers against each other and against the columns of a panel.
    pub fn validate(&self, columns: usize) -> Result<()> {
        if !(2..=self.context).contains(&self.least_context) || self.horizon == 0 {
            let got = format!("{}, {}, {}", self.least_context, self.context, self.horizon);
            return Err(invalid("windows", "2 ≤ least_context ≤ context and a horizon", got));
        }
        let named = self.targets.iter().chain(&self.grouped);
        if self.targets.is_empty()
            || self.grouped.is_empty()
            || named.clone().any(|&column| column >= columns)
        {
            return Err(invalid("targets, grouped", format!("columns below {columns}"), self.targets.len()));
        }
        match (0.0..=1.0).contains(&self.groups) && (0.0..=1.0).contains(&self.gaps) {
            true => Ok(()),
            false => Err(invalid("groups, gaps", "shares", self.groups)),
        }
    }

    /// The horizon of the batch whose first draw is `draw`.
    pub fn horizon_of(&self, draw: u64) -> usize {
        1 + pick(uniform(draw, 0), self.horizon)
    }

    /// The example of a draw; what is random about it is a function of the draw's number.
    pub fn example(
        &self,
        panel: &Panel,
        window: Window,
        draw: u64,
        horizon: usize,
        arcsinh: bool,
    ) -> Example {
        let (least, most) = (self.least_context as f64, self.context as f64);
        let context = (least * (most / least).powf(uniform(draw, 1))).round() as usize;
        let mut example = Example { group: Vec::new(), actual: Vec::new(), weight: Vec::new() };
        let gappy = uniform(draw, 2) < self.gaps;
        let mut push = |column: usize, role: Role| {
            let mut history = window.context(panel, column, context).to_vec();
            if gappy {
                let missing = |row: usize| uniform(draw, 100 + row as u32 * 8 + column as u32) < 0.1;
                history
                    .iter_mut()
                    .enumerate()
                    .filter(|(row, _)| missing(*row))
                    .for_each(|(_, v)| *v = f64::NAN);
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
            example.weight.push(if self.per_move { move_weight(&context) } else { 1.0 });
            example.group.push(Variate { context, future: known, wanted: role == Role::Target });
            example.actual.push(actual);
        };
        if uniform(draw, 3) >= self.groups {
            push(self.targets[pick(uniform(draw, 4), self.targets.len())], Role::Target);
            return example;
        }
        let first = pick(uniform(draw, 5), self.grouped.len());
        push(self.grouped[first], Role::Target);
        for (index, &column) in self.grouped.iter().enumerate() {
            let role = pick(uniform(draw, 10 + index as u32), 4);
            if index != first && role < 3 {
                push(column, [Role::Target, Role::Past, Role::Known][role]);
            }
        }
        example
    }
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
