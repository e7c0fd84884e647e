//! Categorical covariates as numbers.
//!
//! A missing category is a category of its own. Which encoding fits is decided by the number of targets: with one, a
//! category stands for the target's mean under it; with several there is no such mean, and a category is its rank.

/// A category; `None` is a missing one.
pub type Category<'a> = Option<&'a str>;

/// The smoothed mean of the target under each category, for past and future.
///
/// The value of a category is (m + Σ target) / (1 + count) over the points with that category and a target, m the mean
/// of the target over all points, 0 if there is none. A category never seen with a target gives m.
///
/// # Shapes
/// `target` and `past` have one length; the results are as long as `past` and `future`.
pub fn target_means(target: &[f64], past: &[Category], future: &[Category]) -> (Vec<f64>, Vec<f64>) {
    let present = || target.iter().zip(past).filter(|(value, _)| value.is_finite());
    let count = present().count();
    let mean = if count == 0 { 0.0 } else { present().map(|(value, _)| value).sum::<f64>() / count as f64 };
    let mut seen = std::collections::HashMap::<Category, (f64, f64)>::new();
    for (value, category) in present() {
        let (sum, count) = seen.entry(*category).or_default();
        *sum += value;
        *count += 1.0;
    }
    let encode = |categories: &[Category]| {
        let value = |category| seen.get(category).map_or(mean, |(sum, count)| (mean + sum) / (1.0 + count));
        categories.iter().map(value).collect()
    };
    (encode(past), encode(future))
}

/// The rank of each category among `known`, which are sorted and distinct; a missing one comes after them.
///
/// A category that is not known is NaN, a missing number.
pub fn ranks(known: &[&str], categories: &[Category]) -> Vec<f64> {
    let rank = |category: &Category| match category {
        None => known.len() as f64,
        Some(name) => known.binary_search(name).map_or(f64::NAN, |rank| rank as f64),
    };
    categories.iter().map(rank).collect()
}

/// The categories that occur, sorted and distinct.
pub fn distinct<'a>(categories: impl IntoIterator<Item = Category<'a>>) -> Vec<&'a str> {
    let mut known: Vec<&str> = categories.into_iter().flatten().collect();
    known.sort_unstable();
    known.dedup();
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_by_hand() {
        let target = [1.0, f64::NAN, 3.0, 5.0];
        let past = [Some("x"), Some("x"), None, Some("y")];
        let (past, future) = target_means(&target, &past, &[Some("x"), None, Some("z")]);
        assert_eq!(past, [2.0, 2.0, 3.0, 4.0]);
        assert_eq!(future, [2.0, 3.0, 3.0]);
        assert_eq!(target_means(&[f64::NAN], &[Some("p")], &[]).0, [0.0]);
    }

    #[test]
    fn ranks_by_hand() {
        let past = [Some("sun"), Some("rain"), None, Some("sun")];
        let known = distinct(past);
        assert_eq!(ranks(&known, &past), [1.0, 0.0, 2.0, 1.0]);
        assert!(ranks(&known, &[Some("snow")])[0].is_nan());
    }
}
