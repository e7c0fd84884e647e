//! CSV, gzipped or not, with a header.

use super::file;
use super::rows::Rows;
use crate::error::{Result, TrainError};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Reads a file; an empty number is a missing one.
pub(super) fn read(path: &Path, rows: &mut Rows<'_>) -> Result<()> {
    let file = File::open(path).map_err(|source| TrainError::File { path: path.to_path_buf(), source })?;
    let file = BufReader::with_capacity(1 << 16, file);
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = csv::Reader::from_reader(reader);
    let unreadable = |error: csv::Error| file::error(path, "reading".into(), error.to_string());
    let header = reader.headers().map_err(unreadable)?.clone();
    let places = rows
        .columns()
        .map(|name| {
            let place = header.iter().position(|column| column == name);
            place.ok_or_else(|| file::error(path, "header".into(), format!("there is no column \"{name}\"")))
        })
        .collect::<Result<Vec<usize>>>()?;
    let (whole, has_series) = (file::series(path), rows.has_series());
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(unreadable)? {
        let line = || format!("line {}", record.position().map_or(0, |position| position.line()));
        let field = |place: usize| record.get(places[place]).unwrap_or_default();
        let first = usize::from(has_series);
        let time = field(first);
        let time = kronos_job::instant(time)
            .ok_or_else(|| file::error(path, line(), format!("\"{time}\" is no date or time")))?;
        let values = (first + 1..places.len())
            .map(|place| match field(place).trim() {
                "" => Ok(f64::NAN),
                text => {
                    text.parse().map_err(|_| file::error(path, line(), format!("\"{text}\" is no number")))
                }
            })
            .collect::<Result<Vec<f64>>>()?;
        rows.push(if has_series { field(0) } else { &whole }, time, values);
    }
    Ok(())
}
