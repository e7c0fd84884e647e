//! Properties that hold for every problem.

mod cases;

use cases::{Random, random_problem, solve, weights};
use kronos_allocation::{AllocationError, Side, Status};

#[test]
fn a_thousand_random_problems_are_optimal_to_1e_7() {
    let (mut optimal, mut infeasible, mut worst) = (0, 0, 0.0_f64);
    for seed in 0..1_000 {
        let n = 5 + (Random(seed).bits() % 76) as usize;
        match solve(&random_problem(seed, n)) {
            Ok(answer) => {
                assert_eq!(answer.status, Status::Optimal, "seed {seed}");
                worst = worst.max(answer.residuals.max());
                assert!(answer.residuals.max() <= 1e-7, "seed {seed}: {:?}", answer.residuals);
                optimal += 1;
            }
            Err(AllocationError::Infeasible { conflict }) => {
                assert!(!conflict.is_empty(), "seed {seed}");
                infeasible += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{optimal} optimal, {infeasible} infeasible, worst residual {worst:e}");
    assert!(optimal >= 900, "only {optimal} of 1000 problems had a book");
}
