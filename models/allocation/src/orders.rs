//! Rules about orders: fewest names, least notional, whole-share shorts.
//!
//! Each is combinatorial. They are met by fixing names at admissible weights and solving again; the result is feasible and
//! stable but not proven optimal among all choices of names. Where fixing leaves no feasible book, the last feasible one
//! stands and the names that break the rule say so in their status.

use crate::AllocationError;
use crate::book::{Book, Solved, held};
use crate::bounds::WeightBox;
use crate::explain::NameStatus;

/// Re-solves spent on minimum notional; two suffice in practice.
const NOTIONAL_PASSES: usize = 3;

/// Re-solves spent on the number of names; each pass halves the excess.
const NAME_PASSES: usize = 20;

/// A share count this close to a whole number is whole.
const SHARE_TOLERANCE: f64 = 1e-6;

/// The book after the order rules, the boxes it was solved in, and what happened to each name.
pub(crate) struct Settled {
    pub solved: Solved,
    pub boxes: Vec<WeightBox>,
    pub notes: Vec<Option<NameStatus>>,
}

/// Fixes names until the order rules hold.
pub(crate) fn obey(
    book: &Book<'_>,
    first: Solved,
    solve: impl Fn(&[WeightBox]) -> Result<Option<Solved>, AllocationError>,
) -> Result<Settled, AllocationError> {
    let notes = vec![None; book.names.len()];
    let mut settled = Settled { solved: first, boxes: book.boxes.clone(), notes };
    let orders = &book.problem.orders;
    if let Some(limit) = orders.max_names {
        settled.limit_names(limit, &solve)?;
    }
    let least_trade = orders.min_notional.zip(orders.equity).map(|(notional, equity)| notional / equity);
    if let Some(least) = least_trade {
        settled.drop_small_trades(least, &solve)?;
    }
    if let Some(equity) = orders.equity.filter(|_| orders.whole_share_shorts) {
        settled.round_shorts(book, equity, &solve)?;
        if let Some(least) = least_trade {
            settled.drop_small_trades(least, &solve)?;
        }
        settled.note_fractional_shorts(book, equity);
    }
    Ok(settled)
}

impl Settled {
    /// Solves in other boxes; keeps the present book if they admit none.
    fn try_boxes(
        &mut self,
        boxes: Vec<WeightBox>,
        solve: &impl Fn(&[WeightBox]) -> Result<Option<Solved>, AllocationError>,
    ) -> Result<bool, AllocationError> {
        let next = solve(&boxes)?;
        let found = next.is_some();
        if let Some(solved) = next {
            self.solved = solved;
            self.boxes = boxes;
        }
        Ok(found)
    }

    /// Empties the smallest positions that can be emptied, half the excess at a time.
    fn limit_names(
        &mut self,
        limit: usize,
        solve: &impl Fn(&[WeightBox]) -> Result<Option<Solved>, AllocationError>,
    ) -> Result<(), AllocationError> {
        for _ in 0..NAME_PASSES {
            let weights = &self.solved.weights;
            let excess = held(weights).saturating_sub(limit);
            if excess == 0 {
                break;
            }
            let can_empty = |b: &WeightBox| b.fixed.is_none() && b.current.abs() <= b.max_trade;
            let mut candidates: Vec<usize> =
                (0..weights.len()).filter(|&i| weights[i] != 0.0 && can_empty(&self.boxes[i])).collect();
            candidates.sort_by(|&a, &b| weights[a].abs().total_cmp(&weights[b].abs()));
            candidates.truncate(excess.div_ceil(2));
            if candidates.is_empty() {
                break;
            }
            let mut boxes = self.boxes.clone();
            // A name outside the book stays outside, or emptying one would only let another in.
            for (i, b) in boxes.iter_mut().enumerate().filter(|(_, b)| b.fixed.is_none()) {
                if candidates.contains(&i) || (weights[i] == 0.0 && b.current == 0.0) {
                    b.fixed = Some(0.0);
                }
            }
            if !self.try_boxes(boxes, solve)? {
                break;
            }
            candidates.iter().for_each(|&i| self.notes[i] = Some(NameStatus::MaxNames));
        }
        Ok(())
    }

    /// Holds every name whose trade would be smaller than `least`.
    fn drop_small_trades(
        &mut self,
        least: f64,
        solve: &impl Fn(&[WeightBox]) -> Result<Option<Solved>, AllocationError>,
    ) -> Result<(), AllocationError> {
        for _ in 0..NOTIONAL_PASSES {
            let small = self.small_trades(least);
            if small.is_empty() {
                break;
            }
            let mut boxes = self.boxes.clone();
            for &i in &small {
                boxes[i].fixed = Some(boxes[i].current);
            }
            if !self.try_boxes(boxes, solve)? {
                break;
            }
            small.iter().for_each(|&i| self.notes[i] = Some(NameStatus::HeldBelowMinNotional));
        }
        for i in self.small_trades(least) {
            self.notes[i] = Some(NameStatus::TradesBelowMinNotional);
        }
        Ok(())
    }

    fn small_trades(&self, least: f64) -> Vec<usize> {
        let is_small = |&i: &usize| {
            let trade = (self.solved.weights[i] - self.boxes[i].current).abs();
            trade > 0.0 && trade < least * (1.0 - SHARE_TOLERANCE) && self.boxes[i].fixed.is_none()
        };
        (0..self.boxes.len()).filter(is_small).collect()
    }

    /// Fixes every short at a whole number of shares, toward zero where the name may trade that far, and opens no other.
    fn round_shorts(
        &mut self,
        book: &Book<'_>,
        equity: f64,
        solve: &impl Fn(&[WeightBox]) -> Result<Option<Solved>, AllocationError>,
    ) -> Result<(), AllocationError> {
        let mut boxes = self.boxes.clone();
        let mut fractional = Vec::new();
        for (i, b) in boxes.iter_mut().enumerate() {
            let weight = self.solved.weights[i];
            if weight >= 0.0 || weight == b.current {
                if b.current >= 0.0 {
                    b.short = 0.0;
                }
                continue;
            }
            let name = book.names[i];
            let price =
                name.price.ok_or_else(|| AllocationError::PriceRequired { symbol: name.symbol.clone() })?;
            let shares = -weight * equity / price;
            let whole = |shares: f64| -shares * price / equity;
            let (low, high) = b.reach();
            let towards_zero = whole((shares + SHARE_TOLERANCE).floor());
            let away = whole((shares - SHARE_TOLERANCE).ceil());
            let rounded = [towards_zero, away].into_iter().find(|w| (low..=high).contains(w));
            b.fixed = rounded.or(b.fixed);
            if !is_whole(shares) {
                fractional.push(i);
            }
        }
        if !fractional.is_empty() && self.try_boxes(boxes, solve)? {
            fractional.iter().for_each(|&i| self.notes[i] = Some(NameStatus::RoundedToShares));
        }
        Ok(())
    }

    /// Says of every short that is traded to a fraction of a share that it is: out of reach of whole ones, or moved to make
    /// up for those that were rounded.
    fn note_fractional_shorts(&mut self, book: &Book<'_>, equity: f64) {
        for (i, b) in self.boxes.iter().enumerate() {
            let weight = self.solved.weights[i];
            let is_order = weight < 0.0 && weight != b.current;
            if is_order && book.names[i].price.is_some_and(|price| !is_whole(weight * equity / price)) {
                self.notes[i] = Some(NameStatus::FractionalShort);
            }
        }
    }
}

fn is_whole(shares: f64) -> bool {
    (shares - shares.round()).abs() <= SHARE_TOLERANCE
}
