//! Parquet, row by row: training reads a file once, so that the columns' own reader would gain nothing.

use super::file;
use super::rows::Rows;
use crate::error::{Result, TrainError};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::fs::File;
use std::path::Path;

/// Reads a file; a NULL number is a missing one.
pub(super) fn read(path: &Path, rows: &mut Rows<'_>) -> Result<()> {
    let file = File::open(path).map_err(|source| TrainError::File { path: path.to_path_buf(), source })?;
    let unreadable =
        |error: parquet::errors::ParquetError| file::error(path, "reading".into(), error.to_string());
    let reader = SerializedFileReader::new(file).map_err(unreadable)?;
    let columns: Vec<String> = rows.columns().map(str::to_owned).collect();
    let (whole, has_series) = (file::series(path), rows.has_series());
    for (number, row) in reader.get_row_iter(None).map_err(unreadable)?.enumerate() {
        let row = row.map_err(unreadable)?;
        let place = |name: &str| format!("row {} column \"{name}\"", number + 1);
        let field = |name: &str| {
            find(&row, name)
                .ok_or_else(|| file::error(path, "schema".into(), format!("there is no column \"{name}\"")))
        };
        let first = usize::from(has_series);
        let name = match has_series {
            false => whole.clone(),
            true => match field(&columns[0])? {
                Field::Str(name) => name.clone(),
                other => other.to_string(),
            },
        };
        let time = field(&columns[first])?;
        let time = micros(time).ok_or_else(|| {
            file::error(path, place(&columns[first]), format!("\"{time}\" is no date or time"))
        })?;
        let values = columns[first + 1..]
            .iter()
            .map(|column| {
                let value = field(column)?;
                number_of(value)
                    .ok_or_else(|| file::error(path, place(column), format!("\"{value}\" is no number")))
            })
            .collect::<Result<Vec<f64>>>()?;
        rows.push(&name, time, values);
    }
    Ok(())
}

fn find<'r>(row: &'r Row, name: &str) -> Option<&'r Field> {
    row.get_column_iter().find(|(column, _)| column.as_str() == name).map(|(_, field)| field)
}

fn micros(field: &Field) -> Option<i64> {
    match field {
        Field::Date(days) => Some(i64::from(*days) * crate::split::DAY),
        Field::TimestampMillis(millis) => millis.checked_mul(1000),
        Field::TimestampMicros(micros) => Some(*micros),
        Field::Str(text) => kronos_job::instant(text),
        _ => None,
    }
}

fn number_of(field: &Field) -> Option<f64> {
    match field {
        Field::Null => Some(f64::NAN),
        Field::Double(value) => Some(*value),
        Field::Float(value) => Some(f64::from(*value)),
        Field::Int(value) => Some(f64::from(*value)),
        Field::Short(value) => Some(f64::from(*value)),
        Field::Byte(value) => Some(f64::from(*value)),
        Field::UInt(value) => Some(f64::from(*value)),
        // Beyond 2^53 the last digits are lost, which no count of shares reaches.
        Field::Long(value) => Some(*value as f64),
        Field::ULong(value) => Some(*value as f64),
        Field::Decimal(_) => field.to_string().parse().ok(),
        _ => None,
    }
}
