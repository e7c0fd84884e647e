//! The query `signals`: one row per name.

use super::AllocationOptions;
use crate::error::{Error, Result};
use crate::query::{Kind, Query, QueryRow, Wanted};
use kronos_allocation::{Halt, Name};

/// Columns with a meaning, and what they are read as. Beside them `group_*` (text) and `factor_*` (numbers).
const COLUMNS: [(&str, Kind); 13] = [
    ("symbol", Kind::Text),
    ("expected_return", Kind::Number),
    ("prev_weight", Kind::Number),
    ("min_weight", Kind::Number),
    ("max_weight", Kind::Number),
    ("shortable", Kind::Boolean),
    ("cost_bps", Kind::Number),
    ("borrow_bps", Kind::Number),
    ("adv_weight", Kind::Number),
    ("halt", Kind::Text),
    ("veto", Kind::Boolean),
    ("price", Kind::Number),
    ("volatility", Kind::Number),
];

const GROUP: &str = "group_";
const FACTOR: &str = "factor_";
const BASIS_POINT: f64 = 1e-4;

/// The names of a call.
pub struct Signals {
    /// Sorted by symbol.
    pub names: Vec<Name>,
    /// In the same order.
    pub volatilities: Vec<Option<f64>>,
}

/// Reads the names.
pub fn read(query: &Query, needs_forecast: bool, options: &AllocationOptions) -> Result<Signals> {
    query.require("symbol")?;
    if needs_forecast {
        query.require("expected_return")?;
    }
    let mut wanted: Vec<Wanted> =
        COLUMNS.iter().map(|(name, kind)| Wanted { name: (*name).to_owned(), kind: *kind }).collect();
    for name in query.names().filter(|name| COLUMNS.iter().all(|(known, _)| known != name)) {
        let kind = match (name.starts_with(GROUP), name.starts_with(FACTOR)) {
            (true, _) => Kind::Text,
            (_, true) => Kind::Number,
            _ => {
                let valid = COLUMNS.iter().map(|(known, _)| *known).chain(["group_*", "factor_*"]);
                return Err(Error::QueryColumnUnknown {
                    argument: "signals",
                    column: name.to_owned(),
                    valid: valid.map(str::to_owned).collect(),
                });
            }
        };
        wanted.push(Wanted { name: name.to_owned(), kind });
    }
    let reader = Reader { query, wanted: &wanted, needs_forecast, participation: options.participation };
    let mut rows: Vec<(Name, Option<f64>)> = Vec::new();
    query.read(&wanted, "1", |row| {
        rows.push(reader.name(row)?);
        Ok(())
    })?;
    // Sorted here as well: the server sorts by the database's collation, the optimiser by bytes.
    rows.sort_by(|a, b| a.0.symbol.cmp(&b.0.symbol));
    let (names, volatilities) = rows.into_iter().unzip();
    Ok(Signals { names, volatilities })
}

struct Reader<'a> {
    query: &'a Query,
    wanted: &'a [Wanted],
    needs_forecast: bool,
    participation: f64,
}

impl Reader<'_> {
    fn name(&self, row: &QueryRow<'_>) -> Result<(Name, Option<f64>)> {
        let missing = |column, row: String| Error::QueryNull { argument: "signals", column, row };
        let symbol = row.text(0)?.ok_or_else(|| missing("symbol", "A row has no symbol.".into()))?;
        let expected_return = match row.number(1) {
            Some(expected) => expected,
            None if self.needs_forecast => {
                return Err(missing("expected_return", format!("The row of \"{symbol}\" has none.")));
            }
            None => 0.0,
        };
        let mut name = Name {
            symbol: symbol.to_owned(),
            expected_return,
            current_weight: row.number(2).unwrap_or(0.0),
            min_weight: row.number(3),
            max_weight: row.number(4),
            // A name whose borrow is unknown is not shorted; a query without the column says nothing about borrows.
            shortable: self.query.has("shortable").then(|| row.boolean(5).unwrap_or(false)),
            cost: row.number(6).unwrap_or(0.0) * BASIS_POINT,
            borrow_fee: row.number(7).unwrap_or(0.0) * BASIS_POINT,
            max_trade: row.number(8).map(|volume| volume * self.participation),
            halt: halt(symbol, row.text(9)?)?,
            veto: row.boolean(10).unwrap_or(false),
            price: row.number(11),
            ..Name::default()
        };
        for (place, column) in self.wanted.iter().enumerate().skip(COLUMNS.len()) {
            if column.kind == Kind::Text {
                name.groups.extend(row.text(place)?.map(|group| (column.name.clone(), group.to_owned())));
            } else {
                name.factors.extend(row.number(place).map(|exposure| (column.name.clone(), exposure)));
            }
        }
        Ok((name, volatility(symbol, row.number(12))?))
    }
}

/// Squared, a negative one would pass for its opposite.
fn volatility(symbol: &str, given: Option<f64>) -> Result<Option<f64>> {
    match given {
        Some(value) if !(value.is_finite() && value >= 0.0) => Err(Error::InvalidArgument {
            name: format!("volatility of \"{symbol}\""),
            expected: "a finite number, at least 0".into(),
            got: value.to_string(),
            hint: Some("Return NULL where it is not known.".into()),
        }),
        given => Ok(given),
    }
}

fn halt(symbol: &str, text: Option<&str>) -> Result<Halt> {
    match text {
        None => Ok(Halt::None),
        Some("reduce_only") => Ok(Halt::ReduceOnly),
        Some("frozen") => Ok(Halt::Frozen),
        Some(other) => Err(Error::InvalidArgument {
            name: format!("halt of \"{symbol}\""),
            expected: "\"reduce_only\", \"frozen\" or null".into(),
            got: format!("\"{other}\""),
            hint: None,
        }),
    }
}
