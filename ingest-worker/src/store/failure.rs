//! Errors of the database, told apart by one question: can the same statement pass when it is tried again?
//!
//! What passes by itself is waited for, and nothing is lost. All else would be refused for ever: a row that comes again
//! and again holds up every row behind it, so it is put aside with the reason and the others go on. Only what is known to
//! pass is waited for; a code that this list does not know is refused, because a false wait is an outage and a
//! quarantined row is one row that an operator can bring back.

use tokio_postgres::error::SqlState;

/// What an error means for the rows that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The database is away, full, or busy with others; the rows are kept and tried again.
    Passing,
    /// The statement took longer than it may, or somebody cancelled it: fewer rows may pass, and one alone is tried again.
    CutOff,
    /// These rows, as they are, would be refused again.
    Refused,
}

/// Codes that pass though the rest of their class does not.
const PASSING: [SqlState; 7] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    // Whether it was committed is not known; what is stored already is no second row.
    SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN,
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::OBJECT_IN_USE,
    // A standby that becomes the primary.
    SqlState::READ_ONLY_SQL_TRANSACTION,
    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
];

impl Failure {
    /// What an error with this SQLSTATE means; one without (the connection broke) passes.
    pub fn of(state: Option<&SqlState>) -> Self {
        let Some(state) = state else { return Failure::Passing };
        if *state == SqlState::QUERY_CANCELED {
            return Failure::CutOff;
        }
        let passes = match state.code().get(..2) {
            // Connections, the operator, the system.
            Some("08" | "57" | "58") => true,
            // Memory, disk, connections; but a limit that is configured stands until somebody raises it, and TimescaleDB's
            // limit of rows to decompress is met again by the same rows.
            Some("53") => *state != SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            _ => PASSING.contains(state),
        };
        if passes { Failure::Passing } else { Failure::Refused }
    }

    /// Whether the error speaks of the values of a row, not of the table, the role or the server.
    pub fn is_of_values(state: Option<&SqlState>) -> bool {
        state.is_some_and(|state| matches!(state.code().get(..2), Some("22" | "23")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_pass_is_tried_again() {
        let passing = [
            "08000", "08003", "08006", "08001", "08004", "40001", "40P01", "40003", "55P03", "55006",
            "25006", "25P03", "53000", "53100", "53200", "53300", "57000", "57P01", "57P02", "57P03",
            "57P05", "58000", "58030", "58P01",
        ];
        let refused = [
            "53400", "22021", "22003", "22P02", "23505", "23514", "23502", "40002", "42501", "42P01",
            "42703", "42883", "42P10", "0A000", "25P02", "26000", "28000", "3F000", "44000", "54000",
            "55000", "P0001", "XX000", "XX001",
        ];
        for state in passing {
            assert_eq!(Failure::of(Some(&SqlState::from_code(state))), Failure::Passing, "{state}");
        }
        for state in refused {
            assert_eq!(Failure::of(Some(&SqlState::from_code(state))), Failure::Refused, "{state}");
        }
        assert_eq!(Failure::of(Some(&SqlState::QUERY_CANCELED)), Failure::CutOff);
        assert_eq!(Failure::of(None), Failure::Passing, "the connection broke");
    }

    #[test]
    fn errors_of_values_are_those_of_data_and_constraints() {
        for (state, expected) in [("22021", true), ("23514", true), ("42501", false), ("53400", false)] {
            assert_eq!(Failure::is_of_values(Some(&SqlState::from_code(state))), expected, "{state}");
        }
        assert!(!Failure::is_of_values(None));
    }
}
