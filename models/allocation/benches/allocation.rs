//! Time of an allocation beside a bare solve of the same cone program.
#![allow(clippy::unwrap_used)]

#[path = "../tests/cases/mod.rs"]
mod cases;

use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kronos_allocation::{OnInfeasible, conic_program};

fn allocation(c: &mut Criterion) {
    let mut group = c.benchmark_group("allocation");
    group.sample_size(10);
    for n in [50, 200, 500, 1_000, 3_400] {
        let mut problem = cases::random_problem(7, n);
        // A random book of this size starts outside its net limit; the comparison is of one solve, not of the ladder.
        problem.limits.net = kronos_allocation::Interval::new(-1.0, 1.0);
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

criterion_group!(benches, allocation);
criterion_main!(benches);
