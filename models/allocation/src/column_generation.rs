//! Large programs by their few interesting names.
//!
//! A book under limits of gross weight, turnover and single weights holds some dozens of thousands of names. So the program
//! is solved over the names that are held or that promise most, the others at zero, and the duals of that small program
//! price the others: who would improve the book at those prices is let in, and when nobody would, the point is the
//! optimum of the whole (Dantzig and Wolfe 1960; for a convex objective the gradient takes the place of the cost). It is
//! completed by the multipliers of the absent names' own rows and checked against the whole program like any other point.

use clarabel::algebra::CscMatrix;
use clarabel::solver::SupportedConeT;

use crate::AllocationError;
use crate::bounds::WeightBox;
use crate::conic::{CancelCheck, ConicPoint, ConicProgram, OBJECTIVE_SCALE, Outcome, cone_size};
use crate::name_block::{NameColumns, NameRows};
use crate::program::Program;

/// Fewest absent names for which the detour pays.
const FEWEST_ABSENT: usize = 400;

/// Names let in at first and in each round.
const ADMITTED: usize = 96;

/// Rounds after which the whole program is solved: its optimum holds too many names. Half the names are too many as well.
const MAX_ROUNDS: usize = 8;

/// What a name may promise per unit of weight and stay out, in return: below what the solver itself leaves.
const PROMISE_TOLERANCE: f64 = 1e-9;

/// The optimum of `program`, or none where it must be solved as a whole.
///
/// # Errors
/// Cancellation, or a solver that cannot be set up.
pub(crate) fn solve(
    program: &Program,
    boxes: &[WeightBox],
    cancel: &CancelCheck,
) -> Result<Option<Outcome>, AllocationError> {
    let mut absent: Vec<usize> = (0..boxes.len()).filter(|&i| may_be_absent(program, boxes, i)).collect();
    if absent.len() < FEWEST_ABSENT {
        return Ok(None);
    }
    let fewest = absent.len() / 2;
    let conic = &program.conic;
    let untraded =
        ConicPoint { x: vec![0.0; conic.q.len()], z: vec![0.0; conic.b.len()], ..Default::default() };
    let mut promises = price(program, &absent, &untraded);
    let mut iterations = 0;
    for _ in 0..MAX_ROUNDS {
        admit(&mut absent, &promises);
        if absent.len() < fewest {
            break;
        }
        let part = Part::without(program, &absent);
        let Outcome::Optimal(small) = part.conic.solve(cancel)? else { return Ok(None) };
        iterations += small.iterations;
        let mut point = part.complete(conic, &small, iterations);
        promises = price(program, &absent, &point);
        if promises.iter().all(|p| p.gain <= PROMISE_TOLERANCE * OBJECTIVE_SCALE) {
            for (&i, promise) in absent.iter().zip(&promises) {
                promise.settle(&program.rows[i], &mut point.z);
            }
            return Ok(conic.checked(point).map(Outcome::Optimal));
        }
    }
    Ok(None)
}

/// Whether a name can stay at zero without breaking a rule of its own.
fn may_be_absent(program: &Program, boxes: &[WeightBox], i: usize) -> bool {
    boxes[i].current == 0.0 && boxes[i].fixed.is_none() && program.columns[i].weight.is_some()
}

/// What a name at zero is worth at the prices of a point.
struct Promise {
    /// What the first unit of weight would gain, in the objective's units; not positive where the name is rightly absent.
    gain: f64,
    /// Gradients of the columns, those that are absent at zero.
    long: f64,
    short: f64,
    weight: f64,
    buy: f64,
    sell: f64,
    /// Multiplier of the holding row at which every column is as dear as can be.
    holding: f64,
}

/// Prices every absent name.
fn price(program: &Program, absent: &[usize], point: &ConicPoint) -> Vec<Promise> {
    let gradient = program.conic.gradient(&point.x, &point.z);
    absent.iter().map(|&i| Promise::of(&program.columns[i], &gradient)).collect()
}

impl Promise {
    fn of(columns: &NameColumns, gradient: &[f64]) -> Self {
        let at = |column: Option<usize>| column.map_or(0.0, |column| gradient[column]);
        let own_weight = columns.weight.filter(|_| columns.long.is_some() && columns.short.is_some());
        let weight = at(own_weight.map(|(column, _)| column));
        let (long, short, buy, sell) =
            (at(columns.long), at(columns.short), at(columns.buy), at(columns.sell));
        // With the multiplier y of the holding row, the four columns cost long + weight + y, short − weight − y, buy − y and
        // sell + y; the name stays out if some y leaves none of them negative.
        let (mut least, mut greatest) = (f64::NEG_INFINITY, f64::INFINITY);
        if columns.long.is_some() {
            least = -(long + weight);
        }
        if columns.short.is_some() {
            greatest = short - weight;
        }
        let (gain, holding) = if columns.buy.is_some() {
            // Of the multipliers that will do, the least: the bound `long ≥ 0` then costs what selling the name would gain
            // after the cost of the sale.
            let (least, greatest) = (least.max(-sell), greatest.min(buy));
            (least - greatest, least)
        } else {
            (least.max(-greatest).max(least - greatest), 0.0)
        };
        Self { gain, long, short, weight, buy, sell, holding }
    }

    /// Writes the multipliers of the name's own rows.
    fn settle(&self, rows: &NameRows, z: &mut [f64]) {
        let mut set = |row: Option<usize>, value: f64| row.into_iter().for_each(|row| z[row] = value);
        let total = self.weight + self.holding;
        set(rows.weight, total);
        set(rows.holding, self.holding);
        set(rows.long_floor, (self.long + total).max(0.0));
        set(rows.short_floor, (self.short - total).max(0.0));
        set(rows.buy_floor, (self.buy - self.holding).max(0.0));
        set(rows.sell_floor, (self.sell + self.holding).max(0.0));
    }
}

/// Takes the names that promise most out of `absent`.
fn admit(absent: &mut Vec<usize>, promises: &[Promise]) {
    let mut by_gain: Vec<usize> = (0..absent.len()).collect();
    by_gain.sort_by(|&a, &b| promises[b].gain.total_cmp(&promises[a].gain));
    by_gain.truncate(ADMITTED);
    by_gain.retain(|&k| promises[k].gain > PROMISE_TOLERANCE * OBJECTIVE_SCALE);
    let mut admitted = vec![false; absent.len()];
    by_gain.iter().for_each(|&k| admitted[k] = true);
    let mut kept = admitted.iter().map(|admitted| !admitted);
    absent.retain(|_| kept.next().unwrap_or(true));
}

/// A cone program without the columns and rows of some names.
struct Part {
    conic: ConicProgram,
    /// Where its columns and rows are in the whole.
    columns: Vec<usize>,
    rows: Vec<usize>,
}

impl Part {
    fn without(program: &Program, absent: &[usize]) -> Self {
        let whole = &program.conic;
        let (mut columns, mut rows) = (vec![true; whole.q.len()], vec![true; whole.b.len()]);
        for &i in absent {
            program.columns[i].all().for_each(|column| columns[column] = false);
            program.rows[i].all().for_each(|row| rows[row] = false);
        }
        let mut first = 0;
        let cones = whole.cones.iter().map(|cone| {
            let size = cone_size(cone);
            let left = rows[first..first + size].iter().filter(|kept| **kept).count();
            first += size;
            match cone {
                SupportedConeT::ZeroConeT(_) => SupportedConeT::ZeroConeT(left),
                SupportedConeT::SecondOrderConeT(_) => SupportedConeT::SecondOrderConeT(left),
                _ => SupportedConeT::NonnegativeConeT(left),
            }
        });
        let cones = cones.collect();
        let (columns, rows) = (kept(&columns), kept(&rows));
        let pick = |from: &[f64], places: &[usize]| places.iter().map(|&place| from[place]).collect();
        let conic = ConicProgram {
            p: submatrix(&whole.p, &columns, &columns),
            q: pick(&whole.q, &columns),
            a: submatrix(&whole.a, &rows, &columns),
            b: pick(&whole.b, &rows),
            cones,
        };
        Self { conic, columns, rows }
    }

    /// Its point in the whole program, the absent columns and rows at zero.
    fn complete(&self, whole: &ConicProgram, small: &ConicPoint, iterations: u32) -> ConicPoint {
        let spread = |values: &[f64], places: &[usize], len: usize| {
            let mut all = vec![0.0; len];
            places.iter().zip(values).for_each(|(&place, value)| all[place] = *value);
            all
        };
        ConicPoint {
            x: spread(&small.x, &self.columns, whole.q.len()),
            z: spread(&small.z, &self.rows, whole.b.len()),
            iterations,
            ..Default::default()
        }
    }
}

fn kept(mask: &[bool]) -> Vec<usize> {
    (0..mask.len()).filter(|&place| mask[place]).collect()
}

/// The rows and columns of a matrix, both ascending.
fn submatrix(matrix: &CscMatrix<f64>, rows: &[usize], columns: &[usize]) -> CscMatrix<f64> {
    let mut place = vec![None; matrix.m];
    rows.iter().enumerate().for_each(|(new, &old)| place[old] = Some(new));
    let (mut colptr, mut rowval, mut nzval) = (vec![0], Vec::new(), Vec::new());
    for &column in columns {
        for k in matrix.colptr[column]..matrix.colptr[column + 1] {
            if let Some(row) = place[matrix.rowval[k]] {
                rowval.push(row);
                nzval.push(matrix.nzval[k]);
            }
        }
        colptr.push(rowval.len());
    }
    CscMatrix::new(rows.len(), columns.len(), colptr, rowval, nzval)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::book::Book;
    use crate::problem::{GroupLimit, Interval, Limits, Method, Name, Problem};
    use crate::program::{Goal, assemble};
    use crate::risk::{FactorModel, Scenarios};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const NAMES: usize = 700;

    /// Incommensurable waves: every name differs from every other.
    fn wave(i: usize, frequency: f64) -> f64 {
        (i as f64 * frequency).sin()
    }

    fn problem() -> Problem {
        let name = |i: usize| Name {
            symbol: format!("S{i:03}"),
            expected_return: 0.004 * wave(i, 1.7),
            current_weight: if i.is_multiple_of(40) { 0.01 * wave(i, 0.9) } else { 0.0 },
            shortable: Some(!i.is_multiple_of(5)),
            cost: 1e-3 * (1.1 + wave(i, 2.3)),
            borrow_fee: 2e-4 * (1.1 + wave(i, 3.1)),
            max_trade: i.is_multiple_of(3).then_some(0.02),
            groups: BTreeMap::from([("group_sector".into(), format!("g{}", i % 7))]),
            ..Name::default()
        };
        let exposures = (0..NAMES).flat_map(|i| [0.01 * (1.0 + 0.3 * wave(i, 0.7)), 0.004 * wave(i, 1.3)]);
        let specific = (0..NAMES).map(|i| 4e-4 * (1.3 + wave(i, 2.9))).collect();
        let sector = GroupLimit { net: Interval::new(-0.1, 0.1), gross: Some(0.3) };
        Problem {
            names: (0..NAMES).map(name).collect(),
            risk: Some(FactorModel::new(2, exposures.collect(), specific).unwrap()),
            limits: Limits {
                weight_bounds: Interval::new(-0.03, 0.05),
                gross: Some(1.2),
                net: Interval::new(-0.1, 0.2),
                max_turnover: Some(0.5),
                groups: BTreeMap::from([("group_sector".into(), BTreeMap::from([("*".into(), sector)]))]),
                ..Limits::default()
            },
            ..Problem::default()
        }
    }

    /// The program of a problem, solved by its few names and as a whole.
    fn both_ways(problem: &Problem) -> (Program, Option<ConicPoint>, ConicPoint) {
        let cancel: CancelCheck = Arc::new(|| false);
        let book = Book::prepare(problem, &cancel).unwrap();
        let program = assemble(book.parts(&book.boxes), Goal::Optimise(&book.objective));
        let few = solve(&program, &book.boxes, &cancel).unwrap().map(optimal);
        let whole = optimal(program.conic.solve(&cancel).unwrap());
        (program, few, whole)
    }

    fn optimal(outcome: Outcome) -> ConicPoint {
        match outcome {
            Outcome::Optimal(point) => point,
            Outcome::Failed { status, .. } => panic!("{status}"),
        }
    }

    fn cases() -> Vec<(&'static str, Problem)> {
        let base = problem();
        let with = |change: fn(&mut Problem)| {
            let mut problem = base.clone();
            change(&mut problem);
            problem
        };
        vec![
            ("as it is", base.clone()),
            ("long only", with(|p| p.limits.weight_bounds = Interval::new(0.0, 0.05))),
            ("without turnover", with(|p| p.limits.max_turnover = None)),
            ("without costs", with(|p| p.names.iter_mut().for_each(|n| n.cost = 0.0))),
            ("volatility limit", with(|p| p.limits.target_vol = Some(0.01))),
            (
                "scenarios",
                with(|p| {
                    let returns = |t: usize| (0..NAMES).map(move |i| 0.02 * wave(i + 3 * t, 1.9 + t as f64));
                    p.method = Method::Cvar;
                    p.scenarios = Some(Scenarios::new(NAMES, (0..60).flat_map(returns).collect()).unwrap());
                }),
            ),
        ]
    }

    #[test]
    fn few_names_give_the_book_and_the_prices_of_the_whole_program() {
        for (case, problem) in cases() {
            let (program, few, whole) = both_ways(&problem);
            let few = few.unwrap_or_else(|| panic!("{case}: solved as a whole"));
            let boxes = Book::prepare(&problem, &(Arc::new(|| false) as CancelCheck)).unwrap().boxes;
            let weights = program.weights(&whole.x, &boxes);
            let held = weights.iter().filter(|w| w.abs() > 1e-6).count();
            assert!(held > 15, "{case}: {held} names are no test");
            for (i, (ours, theirs)) in program.weights(&few.x, &boxes).iter().zip(&weights).enumerate() {
                assert!((ours - theirs).abs() <= 1e-5, "{case}, name {i}: {ours} for {theirs}");
            }
            let value = |point: &ConicPoint| {
                let (x, q) = (&point.x, &program.conic.q);
                let slope = program.conic.gradient(x, &vec![0.0; program.conic.b.len()]);
                x.iter().zip(q).zip(slope).map(|((x, q), g)| 0.5 * x * (q + g)).sum::<f64>()
            };
            let (ours, theirs) = (value(&few), value(&whole));
            assert!((ours - theirs).abs() <= 1e-8 * theirs.abs(), "{case}: {ours} for {theirs}");
            for &row in &program.soft {
                let (ours, theirs) = (few.z[row], whole.z[row]);
                assert!((ours - theirs).abs() <= 1e-3 * theirs.abs().max(1.0), "{case}: {ours} for {theirs}");
            }
            assert!(few.residuals.max() <= 1e-9, "{case}: {:?}", few.residuals);
        }
    }

    #[test]
    fn a_name_that_would_be_sold_short_if_it_could_has_the_price_of_that() {
        let mut problem = problem();
        problem.limits.max_turnover = None;
        problem.limits.net = Interval::default();
        problem.limits.groups.clear();
        problem.names.iter_mut().for_each(|name| name.cost = 0.0);
        let (program, few, whole) = both_ways(&problem);
        let (few, mut priced) = (few.unwrap(), 0);
        for rows in &program.rows {
            let floor = rows.long_floor.unwrap();
            if rows.short.is_none() && whole.z[floor] > 1.0 {
                priced += 1;
                assert!((few.z[floor] - whole.z[floor]).abs() <= 1e-3 * whole.z[floor]);
            }
        }
        assert!(priced > 30, "{priced}");
    }

    #[test]
    fn what_a_missing_borrow_costs_is_what_selling_would_gain_after_the_sale_is_paid() {
        let (loss, cost) = (-0.01, 0.002);
        let name = |i: usize| Name {
            symbol: format!("S{i:03}"),
            expected_return: if i < 30 { 0.02 } else { loss },
            shortable: Some(i < 30),
            cost,
            ..Name::default()
        };
        let problem = Problem {
            names: (0..NAMES).map(name).collect(),
            risk: Some(FactorModel::new(0, Vec::new(), vec![1e-8; NAMES]).unwrap()),
            limits: Limits { weight_bounds: Interval::new(-0.05, 0.05), ..Limits::default() },
            ..Problem::default()
        };
        let book = crate::allocate(&problem, &(Arc::new(|| false) as CancelCheck)).unwrap();
        for name in &book.names[30..] {
            let [binding] = &name.bindings[..] else { panic!("{:?}", name.bindings) };
            assert_eq!(binding.rule, "borrow");
            // Nothing else binds a name at zero; a fee of 0.01 basis points is the optimiser's own.
            assert!((binding.shadow_price_bps - 1e4 * (-loss - cost)).abs() < 0.02, "{binding:?}");
        }
    }

    #[test]
    fn a_book_of_all_names_is_left_to_the_whole_program() {
        let mut problem = problem();
        problem.method = Method::MinVariance;
        problem.names.iter_mut().for_each(|name| (name.cost, name.borrow_fee) = (0.0, 0.0));
        problem.limits = Limits { net: Interval::new(1.0, 1.0), ..Limits::default() };
        assert!(both_ways(&problem).1.is_none());
    }
}
