//! An ask as numbers: the encoding of categories that the model was trained with.

use super::covariates::{Category, distinct, ranks, target_means};
use crate::ask::{Ask, Values};
use crate::series::{KnownCovariate, SeriesRequest};

/// What the network reads of an ask.
///
/// A category becomes the mean of the target under it or, with several targets, its rank among the categories of the
/// ask's own history, so that no other ask of a request changes it. A static covariate is one whose future is known.
pub fn encode(ask: &Ask) -> SeriesRequest {
    let targets: Vec<Vec<f64>> = ask.targets.iter().map(|target| target.values.clone()).collect();
    let none = Values::Numbers(Vec::new());
    let past = |values| numbers(&targets, values, &none).0;
    let statics = ask.statics.iter().map(|covariate| {
        let past = past(&covariate.values);
        let last = past.iter().rev().copied().find(|value| !value.is_nan()).unwrap_or(f64::NAN);
        KnownCovariate { past, future: vec![last; ask.horizon] }
    });
    let known = ask.known.iter().map(|covariate| {
        let (past, future) = numbers(&targets, &covariate.past, &covariate.future);
        KnownCovariate { past, future }
    });
    SeriesRequest {
        past_covariates: ask.past.iter().map(|covariate| past(&covariate.values)).collect(),
        known_covariates: known.chain(statics).collect(),
        horizon: ask.horizon,
        targets,
    }
}

/// Past and future of a covariate.
fn numbers(targets: &[Vec<f64>], past: &Values, future: &Values) -> (Vec<f64>, Vec<f64>) {
    if let (Values::Numbers(past), Values::Numbers(future)) = (past, future) {
        return (past.clone(), future.clone());
    }
    let (past, future) = (categories(past), categories(future));
    match targets {
        [target] => target_means(target, &past, &future),
        _ => {
            let known = distinct(past.iter().copied());
            (ranks(&known, &past), ranks(&known, &future))
        }
    }
}

/// The categories of a covariate; a number is none.
fn categories(values: &Values) -> Vec<Category<'_>> {
    match values {
        Values::Categories(categories) => categories.iter().collect(),
        Values::Numbers(numbers) => vec![None; numbers.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Channel, Covariate};

    fn ask(targets: &[[f64; 3]], past: [Option<&str>; 3], future: [Option<&str>; 2]) -> Ask {
        let channel = |values: &[f64; 3]| Channel { name: "y".into(), values: values.to_vec() };
        let of = |steps: &[Option<&str>]| Values::Categories(steps.iter().copied().collect());
        let known = crate::ask::KnownCovariate { name: "k".into(), past: of(&past), future: of(&future) };
        let size = Values::Numbers(vec![7.0, 8.0, f64::NAN]);
        Ask {
            targets: targets.iter().map(channel).collect(),
            past: vec![Covariate { name: "p".into(), values: of(&past) }],
            known: vec![known],
            statics: vec![Covariate { name: "s".into(), values: size }],
            horizon: 2,
            ..Ask::default()
        }
    }

    /// The mean of 1, 3 and 5 is 3; under "a" it is (3 + 1 + 5) / 3.
    #[test]
    fn with_one_target_a_category_is_the_mean_under_it() {
        let request =
            encode(&ask(&[[1.0, 3.0, 5.0]], [Some("a"), Some("b"), Some("a")], [Some("b"), Some("c")]));
        assert_eq!(request.targets, [[1.0, 3.0, 5.0]]);
        assert_eq!(request.past_covariates, [[3.0, 3.0, 3.0]]);
        assert_eq!(request.known_covariates[0].future, [3.0, 3.0]);
        let other = encode(&ask(&[[1.0, 3.0, 9.0]], [Some("a"), Some("b"), None], [Some("a"), Some("c")]));
        let mean = 13.0 / 3.0;
        let expected = [(mean + 1.0) / 2.0, (mean + 3.0) / 2.0, (mean + 9.0) / 2.0];
        assert_eq!(other.past_covariates, [expected]);
        assert_eq!(other.known_covariates[0].future, [expected[0], mean]);
    }

    #[test]
    fn with_several_targets_a_category_is_its_rank_in_its_own_history() {
        let request =
            encode(&ask(&[[1.0; 3], [2.0; 3]], [Some("b"), None, Some("a")], [Some("a"), Some("z")]));
        assert_eq!(request.past_covariates, [[1.0, 2.0, 0.0]]);
        let KnownCovariate { past, future } = &request.known_covariates[0];
        assert_eq!((past.as_slice(), future[0]), ([1.0, 2.0, 0.0].as_slice(), 0.0));
        assert!(future[1].is_nan(), "a category that the history does not have");
    }

    #[test]
    fn a_static_covariate_stays_what_it_last_was() {
        let request = encode(&ask(&[[1.0; 3]], [None; 3], [None; 2]));
        assert_eq!(request.known_covariates[1].past[..2], [7.0, 8.0]);
        assert_eq!(request.known_covariates[1].future, [8.0, 8.0]);
    }
}
