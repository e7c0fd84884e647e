//! Properties that hold for every problem.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::{Random, random_problem, solve, weights};
use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver, SolverStatus};
use kronos_allocation::{Allocation, AllocationError, Problem, Status, conic_program};

/// Re-states every rule on the returned weights, without the crate's own arithmetic.
fn assert_rules_hold(problem: &Problem, answer: &Allocation, label: u64) {
    const TOLERANCE: f64 = 1e-6;
    let limits = &problem.limits;
    let w = weights(answer);
    let sum = |f: &dyn Fn(usize) -> f64| (0..w.len()).map(f).sum::<f64>();
    let within = |value: f64, lower: f64, upper: f64, rule: &str| {
        assert!(
            value >= lower - TOLERANCE && value <= upper + TOLERANCE,
            "seed {label}: {rule} {value} in [{lower}, {upper}]"
        );
    };
    for (name, &w) in problem.names.iter().zip(&w) {
        let held = name.current_weight;
        let floor = if name.is_shortable() { -0.03 } else { 0.0 };
        within(w, f64::min(floor, held), f64::max(0.05, held), "weight");
        within((w - held).abs(), 0.0, name.max_trade.unwrap(), "trade");
        match name.halt {
            kronos_allocation::Halt::Frozen => assert_eq!(w, held),
            kronos_allocation::Halt::ReduceOnly => within(w, held.min(0.0), held.max(0.0), "halt"),
            kronos_allocation::Halt::None => {}
        }
    }
    within(sum(&|i| w[i].abs()), 0.0, limits.gross.unwrap(), "gross");
    within(sum(&|i| w[i]), limits.net.lower.unwrap(), limits.net.upper.unwrap(), "net");
    within(sum(&|i| w[i].max(0.0) - 0.5 * w[i].min(0.0)), 0.0, 0.95, "cash");
    within(sum(&|i| 0.5 * (w[i] - problem.names[i].current_weight).abs()), 0.0, 0.15, "turnover");
    for sector in cases::SECTORS {
        let of = |i: usize| if problem.names[i].groups["group_sector"] == sector { w[i] } else { 0.0 };
        within(sum(&of), -0.15, 0.15, sector);
        within(sum(&|i| of(i).abs()), 0.0, 0.30, sector);
    }
}

#[test]
fn a_thousand_random_problems_are_optimal_to_1e_7_and_within_every_rule() {
    let (mut optimal, mut worst) = (0, 0.0_f64);
    for seed in 0..1_000 {
        let n = 5 + (Random(seed).bits() % 76) as usize;
        let problem = random_problem(seed, n);
        match solve(&problem) {
            Ok(answer) => {
                assert_eq!(answer.status, Status::Optimal, "seed {seed}");
                worst = worst.max(answer.residuals.max());
                assert!(answer.residuals.max() <= 1e-7, "seed {seed}: {:?}", answer.residuals);
                assert_rules_hold(&problem, &answer, seed);
                optimal += 1;
            }
            Err(AllocationError::Infeasible { conflict }) => assert!(!conflict.is_empty(), "seed {seed}"),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{optimal} of 1000 optimal, worst residual {worst:e}");
    assert!(optimal >= 900, "only {optimal} of 1000 problems had a book");
}

#[test]
fn the_order_of_names_permutes_the_answer_bit_for_bit() {
    for seed in 0..20 {
        let problem = random_problem(seed, 40);
        let mut reversed = problem.clone();
        reversed.names.reverse();
        let risk = problem.risk.clone().unwrap();
        let exposures = (0..40).rev().flat_map(|i| risk.exposures(i).to_vec()).collect();
        let specific = risk.specific().iter().rev().copied().collect();
        reversed.risk =
            Some(kronos_allocation::FactorModel::new(risk.factors(), exposures, specific).unwrap());
        let (straight, mut backward) = (solve(&problem).unwrap(), solve(&reversed).unwrap());
        backward.names.reverse();
        assert_eq!(straight, backward, "seed {seed}");
    }
}

#[test]
fn the_same_problem_has_the_same_answer() {
    let problem = random_problem(5, 80);
    assert_eq!(solve(&problem).unwrap(), solve(&problem).unwrap());
}

#[test]
fn equity_scales_money_not_weights() {
    let mut problem = random_problem(9, 60);
    problem.orders.equity = Some(1e5);
    problem.orders.min_notional = Some(500.0);
    let small = solve(&problem).unwrap();
    problem.orders.equity = Some(1e8);
    problem.orders.min_notional = Some(5e5);
    assert_eq!(weights(&small), weights(&solve(&problem).unwrap()));
}

#[test]
fn no_name_is_long_and_short_at_once() {
    let mut worst = 0.0_f64;
    for seed in 0..100 {
        let program = conic_program(&random_problem(seed, 60)).unwrap();
        let mut settings = DefaultSettingsBuilder::default();
        let settings = settings.verbose(false).tol_gap_abs(1e-9).tol_gap_rel(1e-9).build().unwrap();
        let p = &program;
        let mut solver = DefaultSolver::new(&p.p, &p.q, &p.a, &p.b, &p.cones, settings).unwrap();
        solver.solve();
        assert_eq!(solver.solution.status, SolverStatus::Solved, "seed {seed}");
        let x = &solver.solution.x;
        let mut rows = vec![Vec::new(); p.a.m];
        for column in 0..p.a.n {
            for k in p.a.colptr[column]..p.a.colptr[column + 1] {
                rows[p.a.rowval[k]].push((column, p.a.nzval[k]));
            }
        }
        let mut names = 0;
        for row in rows {
            // long − short − weight = 0: no other row has these signs in the order of its columns.
            if let [(long, 1.0), (short, -1.0), (_, -1.0)] = row[..] {
                names += 1;
                worst = worst.max(x[long].min(x[short]));
            }
        }
        assert!(names > 30, "most names have both sides");
    }
    assert!(worst <= 1e-7, "{worst:e}");
}

#[test]
fn a_tighter_rule_never_improves_the_objective_and_its_price_says_by_how_much() {
    for seed in 0..20 {
        let mut problem = random_problem(seed, 40);
        let Ok(base) = solve(&problem) else { continue };
        let turnover = problem.limits.max_turnover.unwrap();
        let price = base
            .rules
            .iter()
            .find(|r| r.clause.rule == kronos_allocation::Rule::MaxTurnover)
            .unwrap()
            .shadow_price_bps;
        let step = 1e-4;
        problem.limits.max_turnover = Some(turnover - step);
        let Ok(tighter) = solve(&problem) else { continue };
        let loss_bps = 1e4 * (tighter.objective - base.objective) / step;
        assert!(loss_bps >= -1e-3, "seed {seed}");
        // Convexity: the price is a lower bound of the loss, and exact to first order.
        assert!(loss_bps >= price - 0.05 && loss_bps <= price + 0.5, "seed {seed}: {loss_bps} for {price}");
    }
}
