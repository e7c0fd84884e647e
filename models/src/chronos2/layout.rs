//! From variates to tokens: patches, their positions, and who looks at whom in group attention.
//!
//! A patch without any value is never read by anything that counts, so it gets no token at all. Positions are counted from
//! the oldest patch of the group that has a value: rotary attention sees distances only, and so nothing in front of a
//! history, be it padding of a batch or years of missing values, can change a bit of its forecast.

use super::config::Config;
use std::ops::Range;

/// One variate in the space of the network: normalised, NaN where missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Variate {
    /// The history, oldest first, at most as long as the model's context.
    pub context: Vec<f32>,
    /// What is known of the future, from the first step on; may be empty, at most as long as the forecast.
    pub future: Vec<f32>,
    /// Whether its forecast is asked for.
    pub wanted: bool,
}

/// Variates that exchange information; their histories end at the same point in time.
pub type Group = Vec<Variate>;

/// The patches and tokens of several groups, laid out one after the other.
#[derive(Debug)]
pub struct Layout {
    /// Tokens of each variate: its patches, one separator, `patches` of the future.
    pub rows: Vec<Range<usize>>,
    /// Rotary position of each token.
    pub positions: Vec<usize>,
    /// Whether the forecast of a variate is asked for.
    pub wanted: Vec<bool>,
    /// Future patches per variate.
    pub patches: usize,
    /// Patch vectors of the histories, 3 · patch values each: time, values, mask.
    pub context: Vec<f32>,
    /// Patch vectors of the futures: those of an unknown future first, then those of each variate that knows more.
    pub future: Vec<f32>,
    /// Where in `future`, in units of `patches`, the future of each variate is.
    pub future_of: Vec<usize>,
    /// Who looks at whom among all tokens.
    pub everywhere: GroupAttention,
    /// Who looks at whom among the tokens of the future alone, which then are row · patches + step; only forecasts that are
    /// asked for listen.
    pub ahead: GroupAttention,
}

/// Group attention at every token position of every group.
#[derive(Debug, Default)]
pub struct GroupAttention {
    /// Tokens without others: they see themselves.
    pub alone: Vec<usize>,
    /// Positions with tokens of several variates.
    pub cells: Vec<Cell>,
}

/// Tokens of one group at one position.
#[derive(Debug)]
pub struct Cell {
    /// Tokens that are seen.
    pub members: Vec<usize>,
    /// Those of them that look.
    pub listeners: Vec<usize>,
}

impl GroupAttention {
    fn add(&mut self, members: Vec<usize>, listens: impl Fn(usize) -> bool) {
        match members.as_slice() {
            [] => {}
            [alone] => self.alone.extend(Some(*alone).filter(|&token| listens(token))),
            _ => {
                let listeners = members.iter().copied().filter(|&token| listens(token)).collect();
                self.cells.push(Cell { members, listeners });
            }
        }
    }
}

/// Sizes of patches and of the time encoding.
#[derive(Debug, Clone, Copy)]
pub struct Patching {
    /// Points of a patch.
    pub size: usize,
    /// Points per unit of time.
    pub time_scale: f32,
}

impl Patching {
    /// The sizes of a model.
    pub fn of(config: &Config) -> Self {
        Self { size: config.patch(), time_scale: config.time_encoding_scale() as f32 }
    }

    /// How many patches a history spans, counted back from its end to its first value.
    pub fn span(self, context: &[f32]) -> usize {
        let first = context.iter().position(|value| !value.is_nan());
        first.map_or(0, |first| (context.len() - first).div_ceil(self.size))
    }

    /// The patch `back` patches before the end: its points, NaN in front of the history.
    fn patch(self, context: &[f32], back: usize) -> impl Iterator<Item = f32> + Clone {
        let end = context.len() - back * self.size;
        let missing = self.size.saturating_sub(end);
        std::iter::repeat_n(f32::NAN, missing)
            .chain(context[end.saturating_sub(self.size)..end].iter().copied())
    }

    /// Appends time, values and mask of one patch that begins at `start`, in points from the first step of the future.
    fn push(self, out: &mut Vec<f32>, start: isize, points: impl Iterator<Item = f32> + Clone) {
        out.extend((0..self.size).map(|point| (start + point as isize) as f32 / self.time_scale));
        out.extend(points.clone().map(|value| if value.is_nan() { 0.0 } else { value }));
        out.extend(points.map(|value| if value.is_nan() { 0.0 } else { 1.0 }));
    }

    /// Lays out groups for a forecast of `patches` patches.
    pub fn lay_out(self, groups: &[Group], patches: usize) -> Layout {
        let variates: usize = groups.iter().map(Vec::len).sum();
        let mut layout = Layout {
            rows: Vec::with_capacity(variates),
            positions: Vec::new(),
            wanted: Vec::with_capacity(variates),
            patches,
            context: Vec::new(),
            future: Vec::new(),
            future_of: Vec::with_capacity(variates),
            everywhere: GroupAttention::default(),
            ahead: GroupAttention::default(),
        };
        self.push_future(&mut layout.future, &[], patches);
        for group in groups {
            self.lay_out_group(group, &mut layout);
        }
        layout
    }

    fn lay_out_group(self, group: &Group, layout: &mut Layout) {
        let patches = layout.patches;
        let span = group.iter().map(|variate| self.span(&variate.context)).max().unwrap_or(0);
        let mut at = vec![Vec::new(); span + 1 + patches];
        let first_row = layout.rows.len();
        for variate in group {
            let first = layout.positions.len();
            for back in (0..self.span(&variate.context)).rev() {
                let points = self.patch(&variate.context, back);
                if points.clone().all(f32::is_nan) {
                    continue;
                }
                self.push(&mut layout.context, -((back as isize + 1) * self.size as isize), points);
                layout.positions.push(span - 1 - back);
            }
            layout.positions.extend(span..span + 1 + patches);
            for token in first..layout.positions.len() {
                at[layout.positions[token]].push(token);
            }
            layout.rows.push(first..layout.positions.len());
            layout.wanted.push(variate.wanted);
            if variate.future.iter().all(|value| value.is_nan()) {
                layout.future_of.push(0);
            } else {
                layout.future_of.push(layout.future.len() / (3 * self.size * patches));
                self.push_future(&mut layout.future, &variate.future, patches);
            }
        }
        at.into_iter().for_each(|tokens| layout.everywhere.add(tokens, |_| true));
        for step in 0..patches {
            let tokens = (first_row..layout.rows.len()).map(|row| row * patches + step).collect();
            layout.ahead.add(tokens, |token| layout.wanted[token / patches]);
        }
    }

    fn push_future(self, out: &mut Vec<f32>, known: &[f32], patches: usize) {
        for patch in 0..patches {
            let points =
                (0..self.size).map(|point| known.get(patch * self.size + point).copied().unwrap_or(f32::NAN));
            self.push(out, (patch * self.size) as isize, points);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;
    const PATCHING: Patching = Patching { size: 2, time_scale: 8.0 };

    fn variate(context: &[f32], future: &[f32]) -> Variate {
        Variate { context: context.to_vec(), future: future.to_vec(), wanted: true }
    }

    #[test]
    fn patches_are_cut_from_the_end_and_empty_ones_have_no_token() {
        let layout = PATCHING.lay_out(&[vec![variate(&[NAN, NAN, 1.0, NAN, NAN, 2.0, 3.0], &[])]], 1);
        // From the end: (2, 3), (·, ·), (·, 1); what is in front of the first value does not exist.
        assert_eq!(layout.rows, vec![0..4]);
        assert_eq!(layout.positions, vec![0, 2, 3, 4]);
        #[rustfmt::skip]
        let expected = [
            -0.75, -0.625, 0.0, 1.0, 0.0, 1.0,
            -0.25, -0.125, 2.0, 3.0, 1.0, 1.0,
        ];
        assert_eq!(layout.context, expected);
        assert_eq!(layout.future, [0.0, 0.125, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn variates_of_a_group_meet_where_both_have_tokens() {
        let group = vec![variate(&[1.0, 2.0, 3.0, 4.0], &[]), variate(&[5.0, 6.0], &[7.0, NAN])];
        let layout = PATCHING.lay_out(&[vec![variate(&[1.0], &[])], group], 1);
        assert_eq!(layout.rows, vec![0..3, 3..7, 7..10]);
        assert_eq!(layout.everywhere.alone, vec![0, 1, 2, 3]);
        let members: Vec<_> = layout.everywhere.cells.iter().map(|cell| cell.members.clone()).collect();
        assert_eq!(members, vec![vec![4, 7], vec![5, 8], vec![6, 9]]);
        assert_eq!(layout.ahead.alone, vec![0]);
        assert_eq!(layout.ahead.cells[0].members, vec![1, 2]);
        assert_eq!(layout.future_of, vec![0, 0, 1]);
        assert_eq!(layout.future[6..], [0.0, 0.125, 7.0, 0.0, 1.0, 0.0]);
    }
}
