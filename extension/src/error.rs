//! The one error type of the extension and its one mapping to what a client sees.
//!
//! Messages follow PostgreSQL's style: lower case, one line, no full stop; DETAIL and HINT are full sentences.
//! Functions return `Result<_, ErrorReport>` and use `?`: pgrx raises a returned error with its own SQLSTATE only
//! when it is an [`ErrorReport`].

use kronos_allocation::{AllocationError, Clause};
use kronos_job::JobError;
use kronos_models::ModelError;
use kronos_models::baselines::Baseline;
use kronos_models::device::is_full;
use kronos_models::status::Status;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, spi};
use std::path::PathBuf;
use std::time::Duration;

/// What to do about a gap.
pub const GAP_HINT: &str = "Name the calendar of the market with options => '{\"calendar\":\"XNYS\"}', or let \
     up to n missing bars in one place be carried forward with '{\"max_gap\":n}'.";

/// Result of the extension's inner functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything a SQL function of this extension can refuse, with the facts its message needs.
#[derive(Debug)]
pub enum Error {
    /// A required argument is NULL.
    NullArgument { name: &'static str },
    /// JSON that the server can hold and this library cannot read.
    Json { reason: String },
    /// Options of a type that holds no JSON.
    JsonType { actual: String },
    /// An argument is outside its domain.
    InvalidArgument { name: String, expected: String, got: String, hint: Option<String> },
    /// Neither or both of `horizon` and `until`.
    HorizonOrUntil { both: bool },
    /// An interval's level that is not a fraction.
    LevelOutOfRange { level: f64 },
    /// A key of `options` (or of an object within it) nobody reads.
    UnknownOption { name: String, valid: Vec<String> },
    /// A column that is not there.
    UndefinedColumn { relation: String, column: String, role: &'static str, known: Vec<String> },
    /// A relation without a column of times, and its columns that may count seconds.
    NoTimeColumn { relation: String, numbers: Vec<String> },
    /// A column of a type that does not serve.
    ColumnType { relation: String, column: String, actual: String, expected: String },
    /// A column that cannot be guessed, with what could be meant.
    AmbiguousColumn { relation: String, role: &'static str, argument: &'static str, candidates: Vec<String> },
    /// More than a guard allows; the guard's GUC by name.
    LimitExceeded { what: &'static str, got: u64, limit: u64, guc: &'static str },
    /// A series that cannot be forecast, with `on_error => 'error'`.
    Series { series: String, status: Status, detail: String },
    /// A covariate whose future is not known to the horizon.
    FutureCovariateMissing { series: String, column: String, ts: String },
    /// A model nobody registered.
    UndefinedModel { name: String, known: Vec<String> },
    /// A model name that several versions bear.
    AmbiguousModel { name: String, versions: Vec<String> },
    /// A name already taken by something else.
    NameTaken { kind: &'static str, name: String, by: String },
    /// A version of a model that is registered already, and is not the same.
    VersionTaken { version: String, by: &'static str },
    /// A model that others still refer to.
    ModelInUse { version: String, aliases: Vec<String> },
    /// A model that came with the extension.
    ModelBuiltIn { version: String },
    /// A file of the server's share directory that is not what it should be.
    DamagedManifest { path: PathBuf, reason: String },
    /// An alias nobody set.
    UndefinedAlias { name: String, known: Vec<String> },
    /// A model without a part that is kept in another directory.
    PartMissing { option: &'static str, path: PathBuf, why: &'static str, example: &'static str },
    /// A model directory outside `kronos.model_dir`, or otherwise not acceptable.
    InvalidUri { uri: String, reason: &'static str },
    /// A file that is not there.
    FileMissing { path: PathBuf, expected_sha256: Option<String> },
    /// A file or directory that could not be read.
    FileUnreadable { path: PathBuf, source: std::io::Error },
    /// A file whose content is not the registered one.
    ChecksumMismatch { path: PathBuf, expected: String, actual: String },
    /// A calendar nobody defined.
    UndefinedCalendar { name: String, known: Vec<String> },
    /// An object of ours that is already there.
    DuplicateObject { kind: &'static str, name: String },
    /// A name that an object of another role has.
    DuplicateOfAnother { kind: &'static str, name: String },
    /// A role that does not exist.
    UndefinedRole { name: String },
    /// A feature this build or this configuration does not offer.
    Unsupported { what: String, hint: String },
    /// Something the server must have is not in place.
    NotReady { what: String, hint: String },
    /// An OID that belongs to no relation.
    UndefinedRelation { oid: u32 },
    /// `only_series` for a relation that is one single series.
    NoSeriesColumn { relation: String },
    /// Forecasts to score without anything that says what came.
    NoActuals { relation: String },
    /// A calibration nobody created.
    UndefinedCalibration { name: String, known: Vec<String> },
    /// A calibration that does not fit what it shall be applied to.
    CalibrationMismatch { name: String, what: &'static str, expected: String, got: String },
    /// A value that is none of a list.
    UnknownChoice { what: &'static str, got: String, valid: Vec<String> },
    /// A state whose bytes no version of this library wrote.
    DamagedState { what: String },
    /// An object that belongs to another role.
    NotOwner { kind: &'static str, name: String },
    /// The engine that runs models broke while answering.
    EngineFailed { reason: String },
    /// More requests wait for the service than may.
    QueueFull { limit: usize },
    /// A request that took longer than `kronos.request_timeout`.
    RequestTimeout { limit: Duration },
    /// A query argument that is not one SELECT.
    NotOneSelect { argument: &'static str },
    /// A column that a query argument must have.
    QueryColumnMissing { argument: &'static str, column: String, present: Vec<String> },
    /// A column of a query argument that nobody reads.
    QueryColumnUnknown { argument: &'static str, column: String, valid: Vec<String> },
    /// A column of a query argument of a type that does not serve.
    QueryColumnType { argument: &'static str, column: String, actual: String, expected: &'static str },
    /// A row of a query argument without a value it must have.
    QueryNull { argument: &'static str, column: &'static str, row: String },
    /// Two rows of a query argument where there may be one.
    QueryDuplicate { argument: &'static str, row: String },
    /// A training job that is refused.
    Job(JobError),
    /// Rows that nothing can be learnt from.
    TrainingRows { what: String, hint: &'static str },
    /// The optimiser refused.
    Allocation(AllocationError),
    /// The numerical library refused.
    Model(ModelError),
    /// A query of ours failed without raising an error of its own; a defect.
    Spi(spi::Error),
    /// A state that should not occur; a defect.
    Internal { what: String },
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

impl From<AllocationError> for Error {
    fn from(error: AllocationError) -> Self {
        Self::Allocation(error)
    }
}

impl From<JobError> for Error {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl From<spi::Error> for Error {
    fn from(error: spi::Error) -> Self {
        Self::Spi(error)
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let Report { code, message, detail, hint } = report(error);
        let mut report = ErrorReport::new(code, message, "kronos");
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report
    }
}

/// What a client sees of an error.
struct Report {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Report {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn maybe_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

/// The mapping; it has no catch-all, so that a new variant does not compile without a SQLSTATE.
fn report(error: Error) -> Report {
    use PgSqlErrorCode as Code;
    match error {
        Error::NullArgument { name } => {
            Report::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be null"))
        }
        Error::Json { reason } => {
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("JSON cannot be read: {reason}"))
                .hint("Numbers are double precision, up to 1.8e308, and 127 levels may lie in each other.")
        }
        Error::JsonType { actual } => Report::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("options have type {actual}, expected jsonb, json or text"),
        )
        .hint("Write options => '{\"calendar\":\"XNYS\"}'."),
        Error::InvalidArgument { name, expected, got, hint } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{name} must be {expected}, got {got}"),
        )
        .maybe_hint(hint),
        Error::HorizonOrUntil { both } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            if both { "horizon and until must not both be given" } else { "horizon or until must be given" },
        )
        .hint("Pass horizon => 24 (bars) or until => '2026-12-31'."),
        Error::LevelOutOfRange { level } => {
            let hint = (level > 1.0 && level < 100.0)
                .then(|| format!("level is a fraction; did you mean {}?", level / 100.0));
            Report::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("level must be between 0 and 1, got {level}"),
            )
            .maybe_hint(hint.or_else(|| Some("level is a fraction, such as 0.9.".into())))
        }
        Error::UnknownOption { name, valid } => {
            let near = did_you_mean(&name, &valid);
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("unrecognized option \"{name}\""))
                .hint(format!("{near}Valid options: {}.", list(&valid)))
        }
        Error::UndefinedColumn { relation, column, role, known } => Report::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("column \"{column}\" of \"{relation}\" does not exist"),
        )
        .hint(did_you_mean(&column, &known) + &match role {
            "time" => "Pass time_col => '...'.".to_owned(),
            "series" => "Pass series_col => '...'.".to_owned(),
            "target" => "Name columns of the relation in targets => '{...}'.".to_owned(),
            "covariate" => "Name columns of the relation in past_covariates, future_covariates and static.".to_owned(),
            "score" => "Give rows of kronos.backtest() or of the view kronos.forecasts; by names columns of theirs.".to_owned(),
            "known_at" => "Name a timestamptz column in options => '{\"known_at_col\":\"...\"}'.".to_owned(),
            "open" | "high" | "low" if known.iter().any(|name| name.eq_ignore_ascii_case("close")) && !has_prices(&known) => {
                "kronos.forecast() and kronos.chronos_predict() forecast single columns: targets => '{close}'.".to_owned()
            }
            role => format!("Map names with options => '{{\"columns\":{{\"{role}\":\"px_last\"}}}}'."),
        }),
        Error::NoTimeColumn { relation, numbers } => {
            let report = Report::new(
                Code::ERRCODE_INDETERMINATE_DATATYPE,
                format!("cannot tell the time column of \"{relation}\""),
            )
            .detail("No column is a timestamp with time zone, timestamp or date.");
            match numbers.first() {
                Some(number) => report.hint(since_1970(number)),
                None => report.hint("Forecasts need the start of each row."),
            }
        }
        Error::ColumnType { relation, column, actual, expected } => Report::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{column}\" of \"{relation}\" has type {actual}, expected {expected}"),
        )
        .hint(match actual.as_str() {
            "bigint" | "integer" | "numeric" | "double precision" if expected.starts_with("timestamp") => {
                since_1970(&column)
            }
            _ => "Cast it in a view, or name another column.".to_owned(),
        }),
        Error::AmbiguousColumn { relation, role, argument, candidates } => {
            let detail = match candidates.as_slice() {
                [] => "No column qualifies.".to_owned(),
                [one] => format!("It may be {one}, which is no part of a unique key with the time."),
                several => format!("Candidates are {}.", list(several)),
            };
            Report::new(
                Code::ERRCODE_INDETERMINATE_DATATYPE,
                format!("cannot tell the {role} column of \"{relation}\""),
            )
            .detail(detail)
            .hint(match candidates.as_slice() {
                [_] => format!("Pass {argument} => '...'; for one single series, make the time a unique key or forecast a view without the column."),
                _ => format!("Pass {argument} => '...'."),
            })
        }
        Error::LimitExceeded { what, got, limit, guc } => Report::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("{what} of {got} exceeds the limit of {limit}"),
        )
        .hint(format!("A superuser can raise {guc}.")),
        Error::Series { series, status, detail } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("series \"{series}\" cannot be forecast: {status}"),
        )
        .detail(detail)
        .hint(match status {
            Status::Gap => GAP_HINT,
            _ => "Use options => '{\"on_error\":\"status\"}' to get a status row for such series.",
        }),
        Error::FutureCovariateMissing { series, column, ts } => Report::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("future covariate \"{column}\" of series \"{series}\" has no value at {ts}"),
        )
        .detail("A future covariate must be known for every row of the horizon, in rows whose targets are NULL.")
        .hint("Insert the rows that follow the last target, shorten the horizon, or pass it in past_covariates."),
        Error::UndefinedModel { name, known } => {
            let near = did_you_mean(&name, &known);
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("model \"{name}\" does not exist"))
                .hint(if Baseline::from_name(&name).is_some() {
                    format!("It is a baseline, which needs no weights: kronos.forecast('{name}', ...).")
                } else if known.is_empty() {
                    "No model is registered; see kronos.register_model().".to_owned()
                } else {
                    format!("{near}See kronos.models.")
                })
        }
        Error::AmbiguousModel { name, versions } => Report::new(
            Code::ERRCODE_AMBIGUOUS_PARAMETER,
            format!("model \"{name}\" has several versions"),
        )
        .hint(format!("Name one of {}, or set an alias with kronos.set_alias().", list(&versions))),
        Error::NameTaken { kind, name, by } => {
            Report::new(Code::ERRCODE_DUPLICATE_OBJECT, format!("{kind} \"{name}\" is already the name of {by}"))
        }
        Error::VersionTaken { version, by } => Report::new(
            Code::ERRCODE_DUPLICATE_OBJECT,
            format!("model version \"{version}\" is registered already, with {by}"),
        )
        .detail("A version is never replaced: forecasts and aliases refer to it.")
        .hint("Register the model under another name, or drop the version with kronos.drop_model() first."),
        Error::ModelInUse { version, aliases } => Report::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop model \"{version}\" because an alias refers to it"),
        )
        .detail(format!("Referring to it: {}.", list(&aliases)))
        .hint("Point the alias to another version with kronos.set_alias(), or remove it with kronos.set_alias(alias, NULL)."),
        Error::ModelBuiltIn { version } => Report::new(
            Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop model \"{version}\" because it comes with the extension"),
        )
        .hint("Set kronos.default_model, or point the alias kronos-default or chronos-default to another model."),
        Error::DamagedManifest { path, reason } => Report::new(
            Code::ERRCODE_CONFIG_FILE_ERROR,
            format!("the list of built-in models \"{}\" cannot be used", path.display()),
        )
        .detail(format!("{reason}."))
        .hint("Install the extension again."),
        Error::UndefinedAlias { name, known } => {
            let near = did_you_mean(&name, &known);
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("alias \"{name}\" does not exist"))
                .hint(format!("{near}See the column aliases of kronos.models."))
        }
        Error::PartMissing { option, path, why, example } => Report::new(
            Code::ERRCODE_UNDEFINED_FILE,
            format!("could not open \"{}\": file does not exist", path.join("config.json").display()),
        )
        .detail(why)
        .hint(format!(
            "Put it there, or name its directory under kronos.model_dir with \
             options => '{{\"{option}\":\"{example}\"}}'."
        )),
        Error::InvalidUri { uri, reason } => {
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("model uri \"{uri}\" {reason}"))
                .hint("Give a path relative to kronos.model_dir, such as 'Kronos-base'.")
        }
        Error::FileMissing { path, expected_sha256 } => Report::new(
            Code::ERRCODE_UNDEFINED_FILE,
            format!("could not open \"{}\": file does not exist", path.display()),
        )
        .hint(match expected_sha256 {
            Some(sha256) => format!(
                "Put the file with sha256 {sha256} there; models are read from the directory kronos.model_dir."
            ),
            None => "Models are read from the directory kronos.model_dir.".to_owned(),
        }),
        Error::FileUnreadable { path, source } => {
            Report::new(Code::ERRCODE_IO_ERROR, format!("could not read \"{}\": {source}", path.display()))
                .hint("The file must be readable by the operating system user of the server.")
        }
        Error::ChecksumMismatch { path, expected, actual } => checksum(&path, &expected, &actual),
        Error::UndefinedCalendar { name, known } => {
            let near = did_you_mean(&name, &known);
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("calendar \"{name}\" does not exist"))
                .hint(format!("{near}See kronos.calendars; kronos.add_calendar() makes another."))
        }
        Error::DuplicateObject { kind, name } => {
            Report::new(Code::ERRCODE_DUPLICATE_OBJECT, format!("{kind} \"{name}\" already exists"))
                .hint("Use if_not_exists => true.")
        }
        Error::DuplicateOfAnother { kind, name } => {
            Report::new(Code::ERRCODE_DUPLICATE_OBJECT, format!("{kind} \"{name}\" already exists"))
                .hint("It belongs to another role: choose another name.")
        }
        Error::UndefinedRole { name } => {
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
        }
        Error::Unsupported { what, hint } => {
            Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, format!("{what} is not supported")).hint(hint)
        }
        Error::NotReady { what, hint } => {
            Report::new(Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, what).hint(hint)
        }
        Error::UndefinedRelation { oid } => {
            Report::new(Code::ERRCODE_UNDEFINED_TABLE, format!("relation with OID {oid} does not exist"))
        }
        Error::NoSeriesColumn { relation } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("only_series needs a series column, and \"{relation}\" has none"),
        )
        .hint("Pass series_col => '...', or leave only_series out."),
        Error::NoActuals { relation } => Report::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("actuals must be given, since \"{relation}\" has no column \"actual\""),
        )
        .hint("Pass actuals => '...', the relation with what came."),
        Error::UndefinedCalibration { name, known } => {
            let near = did_you_mean(&name, &known);
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("calibration \"{name}\" does not exist")).hint(format!(
                "{near}See kronos.calibrations; a forecast without calibration has the model's own interval."
            ))
        }
        Error::CalibrationMismatch { name, what, expected, got } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("calibration \"{name}\" is for {what} {expected}, not {got}"),
        )
        .hint(format!("Pass {what} => {expected}, or make another with kronos.create_calibration().")),
        Error::UnknownChoice { what, got, valid } => {
            let near = did_you_mean(&got, &valid);
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, format!("unrecognized {what} \"{got}\""))
                .hint(format!("{near}Valid values of {what}: {}.", list(&valid)))
        }
        Error::DamagedState { what } => {
            Report::new(Code::ERRCODE_DATA_CORRUPTED, format!("could not read {what}"))
                .hint("Reset the calibration with kronos.reset_calibration(), or restore its tables.")
        }
        Error::NotOwner { kind, name } => {
            Report::new(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of {kind} \"{name}\""))
                .hint("It reads as its owner, whatever other roles may do: see its owner, and SET ROLE.")
        }
        Error::EngineFailed { reason } => {
            Report::new(Code::ERRCODE_INTERNAL_ERROR, "the engine that runs models failed")
                .detail(format!("{}.", reason.trim_end_matches('.')))
                .hint("The next call starts a new one; the server log has the circumstances.")
        }
        Error::QueueFull { limit } => Report::new(
            Code::ERRCODE_TOO_MANY_CONNECTIONS,
            format!("{limit} requests are already waiting for the inference service"),
        )
        .hint("See kronos.stat_activity for what they are; raise kronos.max_queue, or ask less often."),
        Error::RequestTimeout { limit } => Report::new(
            Code::ERRCODE_QUERY_CANCELED,
            format!("canceling forecast after {} ms due to kronos.request_timeout", limit.as_millis()),
        ),
        Error::Job(error) => refused_job(error),
        Error::TrainingRows { what, hint } => {
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, what).hint(hint)
        }
        Error::NotOneSelect { argument } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{argument} must be one SELECT statement"),
        )
        .hint("Put anything else into a view, and select from it."),
        Error::QueryColumnMissing { argument, column, present } => Report::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("query \"{argument}\" has no column \"{column}\""),
        )
        .detail(format!("Its columns are {}.", list(&present)))
        .hint(format!("{}Name it with AS {column}.", did_you_mean(&column, &present))),
        Error::QueryColumnUnknown { argument, column, valid } => Report::new(
            Code::ERRCODE_UNDEFINED_COLUMN,
            format!("unrecognized column \"{column}\" of query \"{argument}\""),
        )
        .hint(format!("{}Valid columns: {}.", did_you_mean(&column, &valid), list(&valid))),
        Error::QueryColumnType { argument, column, actual, expected } => Report::new(
            Code::ERRCODE_DATATYPE_MISMATCH,
            format!("column \"{column}\" of query \"{argument}\" has type {actual}, expected {expected}"),
        )
        .hint("Cast it in the query."),
        Error::QueryNull { argument, column, row } => Report::new(
            Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("column \"{column}\" of query \"{argument}\" must not be null"),
        )
        .detail(row),
        Error::QueryDuplicate { argument, row } => Report::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("query \"{argument}\" has duplicate rows"),
        )
        .detail(row)
        .hint("Aggregate or filter the query so that one row remains."),
        Error::Allocation(error) => allocation_report(error),
        Error::Model(error) => model_report(error),
        Error::Spi(error) => {
            Report::new(Code::ERRCODE_INTERNAL_ERROR, "an internal query failed").detail(format!("{error}."))
        }
        Error::Internal { what } => Report::new(Code::ERRCODE_INTERNAL_ERROR, what),
    }
}

/// The variants of the optimiser, equally without a catch-all.
fn refused_job(error: JobError) -> Report {
    use PgSqlErrorCode as Code;
    let message = error.to_string();
    match error {
        JobError::UnknownOption { name, valid } => report(Error::UnknownOption { name, valid }),
        JobError::UnknownFamily { .. } => Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message)
            .hint(format!("Families that can: {}.", kronos_job::names())),
        JobError::NotForFamily { .. } => Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message),
        JobError::Invalid(_) | JobError::OutOfBounds { .. } => {
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
        }
        JobError::TooLarge { .. } => Report::new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
            .hint("Lower train.batch or the sizes in model, or narrow the rows with only_series and until."),
    }
}

fn allocation_report(error: AllocationError) -> Report {
    use PgSqlErrorCode as Code;
    let message = error.to_string();
    let invalid = |message| Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message);
    match error {
        AllocationError::NoNames => invalid(message).hint("The query signals returned no row."),
        AllocationError::DuplicateSymbol { .. } => {
            invalid(message).hint("Aggregate or filter the query so that one row remains.")
        }
        AllocationError::NotFinite { .. }
        | AllocationError::OutOfRange { .. }
        | AllocationError::BoundsCrossed { .. } => invalid(message),
        AllocationError::OutOfProportion { .. } => invalid(message)
            .detail("The weights of the other names would be lost in its rounding.")
            .hint("Returns, costs and volatilities are fractions: 0.01 is one percent. Mend the value or leave the name out."),
        AllocationError::UnknownGroup { key } => Report::new(Code::ERRCODE_UNDEFINED_COLUMN, message)
            .hint(format!("Add a column {key} to the query signals; names of groups begin with group_.")),
        AllocationError::UnknownFactor { key } => Report::new(Code::ERRCODE_UNDEFINED_COLUMN, message)
            .hint(format!("Add a column {key} to the query signals; names of factors begin with factor_.")),
        AllocationError::RiskModelRequired => invalid(message)
            .hint("Pass risk => $$select symbol, ts, ret ...$$, or give signals a column volatility."),
        AllocationError::ScenariosRequired => invalid(message)
            .hint("Pass risk => $$select scenario, symbol, ret ...$$ or $$select symbol, ts, ret ...$$."),
        AllocationError::EquityRequired => invalid(message).hint("Pass options => '{\"equity\": 100000}'."),
        AllocationError::PriceRequired { .. } => invalid(message)
            .hint("Add a column price to the query signals, or set the option whole_share_shorts to false."),
        AllocationError::NotPositiveDefinite => invalid(message).hint("Raise the option shrinkage."),
        AllocationError::ShortHistory { .. } => {
            invalid(message).hint("Let the query risk reach further back.")
        }
        AllocationError::ConstantHistory { .. } => invalid(message).hint(
            "Returns of cash alone have no covariance: leave risk out and give signals a column volatility.",
        ),
        AllocationError::Infeasible { conflict } => invalid(message)
            .detail(format!("{}.", clauses(&conflict)))
            .hint("Relax one of them or pass on_infeasible => 'relax'."),
        AllocationError::TooManyNames { .. } => {
            invalid(message).hint("Raise max_names or pass on_infeasible => 'relax'.")
        }
        AllocationError::Cancelled => unasked("the optimiser stopped although nobody had cancelled it"),
        AllocationError::ShapeMismatch { .. }
        | AllocationError::Solver { .. }
        | AllocationError::Violation { .. } => Report::new(Code::ERRCODE_INTERNAL_ERROR, message),
    }
}

/// Conflicting rules as one list.
pub fn clauses(conflict: &[Clause]) -> String {
    conflict.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The variants of the numerical library, equally without a catch-all.
fn model_report(error: ModelError) -> Report {
    use PgSqlErrorCode as Code;
    let message = error.to_string();
    match error {
        ModelError::InvalidParameter { .. } | ModelError::ShapeMismatch { .. } => {
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
        }
        ModelError::ContextTooShort { .. } => Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
            .hint("Give the series more bars, or raise the option context."),
        ModelError::HorizonTooLong { max_context, .. } => {
            Report::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message).hint(format!(
                "A context of 32 bars must fit beside it: ask for at most {} bars, or set the option slide.",
                (max_context + 1).saturating_sub(32)
            ))
        }
        ModelError::MissingValue { .. } => Report::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, message),
        ModelError::ArtifactMissing { path } => report(Error::FileMissing { path, expected_sha256: None }),
        ModelError::ArtifactIo { path, source } => report(Error::FileUnreadable { path, source }),
        ModelError::ArtifactCorrupt { .. } => Report::new(Code::ERRCODE_DATA_CORRUPTED, message)
            .hint("Fetch the model again; a model directory holds config.json and model.safetensors."),
        ModelError::ChecksumMismatch { path, expected, actual } => checksum(&path, &expected, &actual),
        ModelError::UnknownFamily { family, known } => {
            let near = did_you_mean(&family, &known);
            Report::new(Code::ERRCODE_UNDEFINED_OBJECT, message)
                .hint(format!("{near}Known families: {}.", list(&known)))
        }
        ModelError::Unsupported { .. } => Report::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message),
        ModelError::MemoryLimit { .. } => Report::new(Code::ERRCODE_OUT_OF_MEMORY, message)
            .hint("Ask for fewer samples or series, or raise kronos.max_cpu_memory."),
        ModelError::OutOfMemory { .. } => Report::new(Code::ERRCODE_OUT_OF_MEMORY, message)
            .hint("The system refused the memory: set kronos.max_cpu_memory to what the machine can spare."),
        ModelError::NonFinite { .. } => Report::new(Code::ERRCODE_FLOATING_POINT_EXCEPTION, message)
            .hint("Check the bars of this series for extreme values."),
        ModelError::Cancelled => unasked("the engine gave up a request that is still waited for"),
        ModelError::Backend(source) if is_full(&source) => {
            Report::new(Code::ERRCODE_OUT_OF_MEMORY, "a GPU has no memory left for the forecast")
                .detail(format!("{source}."))
                .hint("Ask for fewer samples or series, or lower kronos.max_gpu_memory, which leaves the rest for scratch space.")
        }
        ModelError::Backend(source) => {
            Report::new(Code::ERRCODE_INTERNAL_ERROR, "inference failed").detail(format!("{source}."))
        }
    }
}

/// A cancelled query, a timeout or a termination is raised by the server, which alone knows which of them it was.
fn unasked(what: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, what)
}

fn checksum(path: &std::path::Path, expected: &str, actual: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        format!("\"{}\" does not match its checksum", path.display()),
    )
    .detail(format!("Expected sha256 {expected}, the file has {actual}."))
    .hint("Fetch the file again, or register what is there as a new version with kronos.register_model().")
}

/// Quoted, comma-separated names.
pub fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// `Did you mean "x"? ` with a trailing blank, or nothing when no name is near.
pub fn did_you_mean(name: &str, known: &[String]) -> String {
    let wanted = name.to_lowercase();
    known
        .iter()
        .map(|candidate| (edit_distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("Did you mean \"{candidate}\"? "))
        .unwrap_or_default()
}

/// What to do with a column that counts seconds.
fn since_1970(column: &str) -> String {
    format!(
        "If \"{column}\" counts seconds since 1970, make a view of it: select *, to_timestamp(\"{column}\") as time from ...; \
         for milliseconds, to_timestamp(\"{column}\" / 1000.0)."
    )
}

/// Whether a relation has bars, in whatever case their names are written.
fn has_prices(known: &[String]) -> bool {
    ["open", "high", "low"].iter().all(|price| known.iter().any(|name| name.eq_ignore_ascii_case(price)))
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other
/// (optimal string alignment distance).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1; b.len() + 1];
        for j in 0..b.len() {
            let substitution = above[j] + usize::from(a[i] != b[j]);
            row[j + 1] = substitution.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
