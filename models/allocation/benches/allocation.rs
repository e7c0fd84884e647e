//! Time of an allocation beside a bare solve of the same cone program.
#![allow(clippy::unwrap_used)]

#[path = "../tests/cases/mod.rs"]
mod cases;

use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kronos_allocation::{Estimator, Interval, OnInfeasible, ReturnHistory, conic_program};

fn allocation(c: &mut Criterion) {
    let mut group = c.benchmark_group("allocation");
    group.sample_size(10);
    for n in [50, 200, 500, 1_000, 3_400] {
        let mut problem = cases::random_problem(7, n);
        // A random book of this size starts outside its net limit; the comparison is of one solve, not of the ladder.
        problem.limits.net = Interval::new(-1.0, 1.0);
        problem.on_infeasible = OnInfeasible::Error;
        let program = conic_program(&problem).unwrap();
        group.bench_with_input(BenchmarkId::new("allocate", n), &problem, |b, problem| {
            b.iter(|| cases::solve(problem).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("bare clarabel", n), &program, |b, p| {
            b.iter(|| {
                let settings = DefaultSettingsBuilder::default().verbose(false).build().unwrap();
                let mut solver = DefaultSolver::new(&p.p, &p.q, &p.a, &p.b, &p.cones, settings).unwrap();
                solver.solve();
                solver.solution.status
            });
        });
    }
    group.finish();
}

/// As many factors as dates: the default estimator at its most expensive.
fn shrunk_covariance(c: &mut Criterion) {
    let (names, dates) = (3_000, 250);
    let random = &mut cases::Random(3);
    let betas: Vec<f64> = (0..names).map(|_| 1.0 + 0.3 * random.normal()).collect();
    let mut returns = Vec::with_capacity(names * dates);
    for _ in 0..dates {
        let market = 0.01 * random.normal();
        returns.extend(betas.iter().map(|beta| Some(beta * market + 0.02 * random.normal())));
    }
    let mut problem = cases::random_problem(7, names);
    problem.limits.net = Interval::new(-1.0, 1.0);
    let mut group = c.benchmark_group("ledoit_wolf");
    group.sample_size(10);
    group.bench_function("3000 names, 250 dates", |b| {
        b.iter(|| {
            let history = ReturnHistory::new(names, returns.clone()).unwrap();
            problem.risk = Some(history.estimate(Estimator::LedoitWolf).unwrap().model);
            cases::solve(&problem).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, allocation, shrunk_covariance);
criterion_main!(benches);
