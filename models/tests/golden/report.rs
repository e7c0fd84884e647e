//! What was compared, how far it was off, and how far it may be.

use std::fmt;

/// One comparison of a whole tensor.
#[derive(Debug)]
pub struct Row {
    pub set: String,
    pub case: String,
    pub stage: String,
    /// Largest absolute deviation, or the number of elements that differ where equality is asked for.
    pub deviation: f64,
    /// Tolerance at the element that uses most of its own; 0 asks for equality.
    pub tolerance: f64,
    /// Where in the tensor, or what is wrong with it as a whole.
    pub place: String,
}

impl Row {
    fn passes(&self) -> bool {
        self.deviation <= self.tolerance
    }
}

/// All comparisons, in the order in which the model computes what they compare.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Comparisons of one case of one set.
    pub fn case(&mut self, set: &str, case: &str) -> Case<'_> {
        Case { report: self, set: set.into(), case: case.into() }
    }

    /// The first comparison that fails.
    pub fn first_deviation(&self) -> Option<&Row> {
        self.rows.iter().find(|row| !row.passes())
    }

    /// Panics with the first stage that deviates; also when nothing was compared at all.
    pub fn assert_parity(&self) {
        assert!(!self.rows.is_empty(), "the folder holds nothing to compare");
        if let Some(row) = self.first_deviation() {
            let failed = self.rows.iter().filter(|row| !row.passes()).count();
            let Row { set, case, stage, deviation, tolerance, place } = row;
            panic!(
                "first deviation: set {set}, case {case}, stage {stage}: {deviation:.3e} at {place}, tolerance \
                 {tolerance:.1e}; {failed} of {} comparisons deviate",
                self.rows.len()
            );
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Row) -> &str, title: &str| {
            self.rows.iter().map(|row| text(row).len()).max().unwrap_or(0).max(title.len())
        };
        let set = width(|row| &row.set, "set");
        let case = width(|row| &row.case, "case");
        let stage = width(|row| &row.stage, "stage");
        writeln!(f, "{:set$}  {:case$}  {:stage$}  deviation  tolerance", "set", "case", "stage")?;
        for row in &self.rows {
            write!(f, "{:set$}  {:case$}  {:stage$}  ", row.set, row.case, row.stage)?;
            match row.tolerance {
                0.0 => write!(f, "{:>9}      exact", row.deviation)?,
                tolerance => write!(f, "{:>9.1e}  {tolerance:>9.1e}", row.deviation)?,
            }
            writeln!(f, "{}", if row.passes() { "" } else { "  DEVIATES" })?;
        }
        Ok(())
    }
}

/// Where the comparisons of one case are noted.
pub struct Case<'r> {
    report: &'r mut Report,
    set: String,
    case: String,
}

impl Case<'_> {
    /// Floating-point values against one absolute tolerance.
    pub fn close(&mut self, stage: &str, got: &[f32], expected: &[f32], tolerance: f64) {
        self.close_by(stage, got, expected, |_| tolerance);
    }

    /// Floating-point values, each against the tolerance of its index.
    pub fn close_by(&mut self, stage: &str, got: &[f32], expected: &[f32], tolerance: impl Fn(usize) -> f64) {
        if got.len() != expected.len() {
            return self.fail(stage, format!("{} values, expected {}", got.len(), expected.len()));
        }
        // What is not a number deviates without bound, whatever the other side is.
        let deviation = |i: usize| {
            let difference = (f64::from(got[i]) - f64::from(expected[i])).abs();
            if difference.is_nan() { f64::INFINITY } else { difference }
        };
        let worst = (0..got.len())
            .max_by(|&a, &b| (deviation(a) / tolerance(a)).total_cmp(&(deviation(b) / tolerance(b))))
            .map(|i| (i, deviation(i), tolerance(i)));
        match worst {
            Some((i, deviation, tolerance)) => self.note(stage, deviation, tolerance, format!("index {i}")),
            None => self.fail(stage, "no values".into()),
        }
    }

    /// Values that must be equal, bit for bit in the case of floats.
    pub fn equal<T: PartialEq + fmt::Debug>(&mut self, stage: &str, got: &[T], expected: &[T]) {
        if got.len() != expected.len() {
            return self.fail(stage, format!("{} values, expected {}", got.len(), expected.len()));
        }
        let mut different = (0..got.len()).filter(|&i| got[i] != expected[i]);
        match different.next() {
            None => self.note(stage, 0.0, 0.0, String::new()),
            Some(i) => {
                let place = format!("index {i}, {:?} for {:?}", got[i], expected[i]);
                self.note(stage, 1.0 + different.count() as f64, 0.0, place);
            }
        }
    }

    /// A stage that cannot be compared at all.
    pub fn fail(&mut self, stage: &str, reason: String) {
        self.note(stage, f64::INFINITY, 0.0, reason);
    }

    fn note(&mut self, stage: &str, deviation: f64, tolerance: f64, place: String) {
        let (set, case, stage) = (self.set.clone(), self.case.clone(), stage.into());
        self.report.rows.push(Row { set, case, stage, deviation, tolerance, place });
    }
}
