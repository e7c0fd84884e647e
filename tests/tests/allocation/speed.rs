//! Time of `propose_weights` beside the optimiser called directly and a bare solve of the same cone program, in one run.
//!
//! Figures depend on the machine and on who else uses it, so they are taken on request: `KRONOS_BENCH=1`. That the
//! three solve the same problem is always checked.

#[path = "../../../models/allocation/tests/cases/mod.rs"]
mod cases;

use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver};
use kronos_allocation::{ConicProgram, FactorModel, Halt, Interval, Problem, conic_program};
use kronos_tests::{Client, Database, rows};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

/// Share of a day's volume that may be traded, as `propose_weights` has it.
const PARTICIPATION: f64 = 0.02;

const CALL: &str = "kronos.propose_weights('select * from problem', gross => 1.5, net => '[-1,1]', weight_bounds => '[-0.03,0.05]',
    max_turnover => 0.15, group_limits => '{\"group_sector\":{\"*\":{\"net\":[-0.15,0.15],\"gross\":0.3}}}',
    options => '{\"cash_reserve\":0.05,\"short_margin\":0.5}')";

/// A random problem whose names are uncorrelated, so that a column of the signals holds their risk.
fn problem(names: usize) -> Problem {
    let mut problem = cases::random_problem(7, names);
    let variances = (0..names).map(|i| (0.01 + 0.02 * (i as f64 * 0.37).sin().abs()).powi(2)).collect();
    problem.risk = Some(FactorModel::new(0, Vec::new(), variances).unwrap());
    // A random book of this size starts outside its net limit; the comparison is of one solve, not of the ladder.
    problem.limits.net = Interval::new(-1.0, 1.0);
    problem
}

/// The same as rows.
fn store(client: &mut Client, problem: &Problem) {
    let mut sql = String::from(
        "drop table if exists problem;
         create table problem (symbol text, expected_return float8, prev_weight float8, shortable boolean, halt text, cost_bps float8,
           borrow_bps float8, adv_weight float8, group_sector text, volatility float8); insert into problem values ",
    );
    for (i, name) in problem.names.iter().enumerate() {
        let halt = match name.halt {
            Halt::None => "null",
            Halt::ReduceOnly => "'reduce_only'",
            Halt::Frozen => "'frozen'",
        };
        write!(
            sql,
            "{}('{}', {}, {}, {}, {halt}, {}, {}, {}, '{}', {})",
            if i == 0 { "" } else { ", " },
            name.symbol,
            name.expected_return,
            name.current_weight,
            name.is_shortable(),
            name.cost * 1e4,
            name.borrow_fee * 1e4,
            name.max_trade.unwrap() / PARTICIPATION,
            name.groups["group_sector"],
            0.01 + 0.02 * (i as f64 * 0.37).sin().abs()
        )
        .unwrap();
    }
    client.batch_execute(&sql).unwrap();
    client.batch_execute("analyze problem").unwrap();
}

fn bare(p: &ConicProgram) {
    let settings = DefaultSettingsBuilder::default().verbose(false).build().unwrap();
    let mut solver = DefaultSolver::new(&p.p, &p.q, &p.a, &p.b, &p.cones, settings).unwrap();
    solver.solve();
    std::hint::black_box(&solver.solution);
}

/// The least of several times, in milliseconds.
fn least(rounds: usize, mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let began = Instant::now();
        run();
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..rounds).map(time).fold(f64::INFINITY, f64::min)
}

#[test]
fn sql_solves_the_problem_that_it_is_given() {
    let db = Database::new("allocation_same_problem");
    let mut client = db.connect();
    for names in [50, 200] {
        let problem = problem(names);
        store(&mut client, &problem);
        let expected = cases::weights(&cases::solve(&problem).unwrap());
        let got = rows(&mut client, &format!("select weight from {CALL} order by symbol"));
        for (row, expected) in got.iter().zip(expected) {
            let weight: f64 = row[0].as_deref().unwrap().parse().unwrap();
            assert!((weight - expected).abs() < 1e-7, "{names} names: {weight}, expected {expected}");
        }
    }
}

#[test]
fn sql_costs_little_beside_the_solve() {
    let mut out = std::io::stderr();
    if !kronos_skip::requested("KRONOS_BENCH", "the speed of the allocation is measured", "make bench") {
        return;
    }
    let db = Database::new("allocation_speed");
    let mut client = db.connect();
    writeln!(out, "names | bare solve | library |      SQL | library / bare | SQL overhead").unwrap();
    for (names, rounds) in [(50, 20), (200, 10), (500, 10), (1_000, 5), (3_400, 3)] {
        let problem = problem(names);
        store(&mut client, &problem);
        let program = conic_program(&problem).unwrap();
        let sql = format!("select count(*) from {CALL}");
        rows(&mut client, &sql);
        let bare = least(rounds, || bare(&program));
        let library = least(rounds, || drop(cases::solve(&problem).unwrap()));
        let sql = least(rounds, || drop(rows(&mut client, &sql)));
        writeln!(
            out,
            "{names:5} | {bare:7.1} ms | {library:4.1} ms | {sql:5.1} ms | {:14.2} | {:5.1} ms ({:.0} %)",
            library / bare,
            sql - library,
            100.0 * (sql - library) / library
        )
        .unwrap();
    }
}
