//! The one error type of the crate; every variant carries the facts a message needs.

use crate::Clause;

/// Why no allocation was returned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AllocationError {
    /// The problem lists no name.
    #[error("allocation needs at least one name")]
    NoNames,
    /// A symbol appears twice.
    #[error("name \"{symbol}\" appears more than once")]
    DuplicateSymbol {
        /// The repeated symbol.
        symbol: String,
    },
    /// A number is NaN or infinite.
    #[error("{what} is not a finite number")]
    NotFinite {
        /// What the number describes.
        what: String,
    },
    /// A number lies outside its domain.
    #[error("{what} must be {allowed}, got {value}")]
    OutOfRange {
        /// What the number describes.
        what: String,
        /// The number.
        value: f64,
        /// The domain in words.
        allowed: &'static str,
    },
    /// A number is so far above those of the other names that they would be lost in its rounding.
    #[error("{what} is {value:e}, more than {times} times what is usual among the names")]
    OutOfProportion {
        /// What the number describes.
        what: String,
        /// The number.
        value: f64,
        /// How many times as large it may be.
        times: f64,
    },
    /// A lower bound exceeds its upper bound.
    #[error("{what} has lower bound {lower} above upper bound {upper}")]
    BoundsCrossed {
        /// What is bounded.
        what: String,
        /// Lower bound.
        lower: f64,
        /// Upper bound.
        upper: f64,
    },
    /// A group limit speaks of a key that no name carries.
    #[error("no name has group \"{key}\"")]
    UnknownGroup {
        /// The key of the limit.
        key: String,
    },
    /// A factor limit speaks of a key that no name carries.
    #[error("no name has factor \"{key}\"")]
    UnknownFactor {
        /// The key of the limit.
        key: String,
    },
    /// Arrays disagree about a length.
    #[error("{what} has {got} values where {expected} were expected")]
    ShapeMismatch {
        /// The array.
        what: &'static str,
        /// Expected length.
        expected: usize,
        /// Length found.
        got: usize,
    },
    /// The method needs a covariance model.
    #[error("this method or target_vol needs a risk model")]
    RiskModelRequired,
    /// Conditional value at risk needs scenarios.
    #[error("method cvar needs scenarios")]
    ScenariosRequired,
    /// Minimum notional and whole shares need the equity.
    #[error("min_notional and whole_share_shorts need equity")]
    EquityRequired,
    /// A whole-share short needs a price.
    #[error("price of \"{symbol}\" is needed to round its short to whole shares")]
    PriceRequired {
        /// The name without a price.
        symbol: String,
    },
    /// A covariance matrix has a direction without positive variance.
    #[error("covariance matrix is not positive definite")]
    NotPositiveDefinite,
    /// The history cannot carry an estimate.
    #[error("risk history has {got} dates, the estimator needs at least {needed}")]
    ShortHistory {
        /// Dates found.
        got: usize,
        /// Dates needed.
        needed: usize,
    },
    /// No name's returns vary, so there is nothing to estimate.
    #[error("no return in the risk history of {dates} dates varies")]
    ConstantHistory {
        /// Dates found.
        dates: usize,
    },
    /// The rules cannot be met together; no member of the set can be left out.
    #[error("constraints cannot be satisfied together")]
    Infeasible {
        /// The irreducible conflicting set.
        conflict: Vec<Clause>,
    },
    /// The heuristic for the greatest number of names found no book within it.
    #[error("no book with at most {limit} names was found, the best one holds {held}")]
    TooManyNames {
        /// The limit.
        limit: usize,
        /// Names held.
        held: usize,
    },
    /// The solver stopped without a usable answer although the rules are compatible.
    #[error("solver stopped with status {status}")]
    Solver {
        /// The solver's own status.
        status: String,
    },
    /// The answer breaks a rule it was solved under: a defect, never a property of the data.
    #[error("solution violates {rule} by {violation}")]
    Violation {
        /// The broken rule.
        rule: String,
        /// By how much.
        violation: f64,
    },
    /// The caller asked to stop.
    #[error("allocation was cancelled")]
    Cancelled,
}
