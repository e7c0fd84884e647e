//! Whole files, row by row.

use std::io::Write;

use super::*;

fn records(text: &str, options: Options) -> Result<Vec<Record>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut table = Table::open(file.path(), options, "2026-11-30T00:00:00Z".parse().unwrap())?;
    Ok(std::iter::from_fn(|| table.next_record().unwrap().map(|(_, record)| record)).collect())
}

#[test]
fn bars_are_recognised_and_known_at_their_end() {
    let text =
        "symbol,ds,open,high,low,close,volume\nA,2014-03-03,40.5,41,40,40.9,\nA,2014-03-04,41,42,40,41.7,9\n";
    let read = records(text, Options::default()).unwrap();
    let Record::Bar(bar) = &read[0] else { panic!("{read:?}") };
    assert_eq!((bar.width.seconds, bar.volume), (86_400, None));
    assert_eq!(bar.known_at.to_rfc3339(), "2014-03-04T00:00:00+00:00");
}

#[test]
fn columns_can_be_mapped_and_bad_rows_are_quarantined_alone() {
    let columns = [("close".to_owned(), "px_last".to_owned())].into();
    let options = Options { columns, symbol: Some("X".into()), ..Options::default() };
    let text = "time,open,high,low,px_last\n2024-01-01T00:00:00Z,1,1,1,1\n2024-01-01T01:00:00Z,1,1,1,oops\n2024-01-01T02:00:00Z,1,1,1,2\n";
    let read = records(text, options).unwrap();
    assert!(
        matches!(&read[..], [Record::Bar(_), Record::Rejected(r), Record::Bar(b)]
        if r.reason.contains("line 3") && r.reason.contains("oops") && b.width.seconds == 3_600),
        "{read:?}"
    );
}

#[test]
fn a_price_that_double_precision_takes_for_zero_is_refused() {
    let bar = |close: &str| {
        let options = Options { width: Some(Width::Seconds(86_400)), ..Options::default() };
        records(&format!("symbol,ds,open,high,low,close\nA,2014-03-03,0,41,0e5,{close}\n"), options)
    };
    for close in ["1e-400", "-0.1E-330", "00.001e-999"] {
        let read = bar(close).unwrap();
        assert!(
            matches!(&read[..], [Record::Rejected(r)] if r.reason.contains(close) && r.reason.contains("nearer to zero")),
            "{read:?}"
        );
    }
    for (close, expected) in [("0.000", 0.0), ("-0", 0.0), ("5e-324", 5e-324), ("1e-300", 1e-300)] {
        let read = bar(close).unwrap();
        assert!(matches!(&read[..], [Record::Bar(bar)] if bar.close == expected), "{read:?}");
    }
}

#[test]
fn trades_keep_their_text_and_get_their_line_as_identity() {
    let text = "symbol,ts,price,size,exchange,cond,suspicious\nSPY,2013-10-07T08:00:00.464Z,167.410,100,P,20002000,0\n";
    let read = records(text, Options::default()).unwrap();
    let [Record::Trade(trade)] = &read[..] else { panic!("{read:?}") };
    assert_eq!((trade.price.to_string().as_str(), trade.trade_id.as_str()), ("167.410", "2"));
}

#[test]
fn what_a_header_cannot_tell_is_an_error_with_the_way_out() {
    let message = |text: &str| records(text, Options::default()).unwrap_err().to_string();
    assert!(message("a,b\n1,2\n").contains("--column"));
    assert!(message("time,open,high,low,close\n").contains("--symbol"));
    assert!(message("symbol,time,open,high,low,close\nA,2024-01-01,1,1,1,1\n").contains("--width"));
}

/// Time, close and volume of a bar.
type Told = (String, f64, Option<f64>);

/// The bars of a file, or why a row is none.
fn bars(text: &str, options: Options) -> Vec<Result<Told, String>> {
    let read = records(text, options).unwrap();
    let told = |record| match record {
        Record::Bar(bar) => Ok((instant::shown(bar.time), bar.close, bar.volume)),
        Record::Rejected(rejected) => Err(rejected.reason),
        other => panic!("{other:?}"),
    };
    read.into_iter().map(told).collect()
}

#[test]
fn files_of_other_programs_are_read_without_a_word_about_them() {
    let expected = [
        Ok(("2024-01-02T09:30:00Z".to_owned(), 1_234.5, Some(1_500.0))),
        Ok(("2024-01-02T09:31:00Z".to_owned(), 1_235.25, None)),
    ];
    for text in [
        // A byte order mark, semicolons, decimal commas, thousands with points.
        "\u{feff}symbol;time;open;high;low;close;volume\r\nA;02.01.2024 09:30;1;2;1;1.234,5;1.500\r\nA;02.01.2024 09:31;1;2;1;1.235,25;\r\nB;31.01.2024 09:30;1;2;1;2;\r\n",
        "\"symbol\"\t\"Date\"\t\"Time\"\t\"Open\"\t\"High\"\t\"Low\"\t\"Close\"\t\"Vol.\"\nA\t20240102\t093000\t1\t2\t1\t1234.5\t1500\nA\t20240102\t093100\t1\t2\t1\t1235.25\t\n",
        "<TICKER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>\nA,20240102,93000,1,2,1,1234.5,1500\nA,20240102,93100,1,2,1,1235.25,\n",
        "ticker|date|time|open|high|low|close|volume\nA|2024.01.02|09:30|1|2|1|\"1,234.5\"|1500\nA|2024.01.02|09:31|1|2|1|1235.25|\n",
        // A whole time beside the day.
        "symbol,date,time,open,high,low,close,volume\nA,2024-01-02,2024-01-02 09:30:00 UTC,1,2,1,1234.5,1500\nA,2024-01-02,2024-01-02 09:31:00 UTC,1,2,1,1235.25,\n",
        "symbol,open_time_unix,open,high,low,close,volume\nA,1704187800,1,2,1,1234.5,1500\nA,1704187860,1,2,1,1235.25,\n",
    ] {
        assert_eq!(&bars(text, Options::default())[..2], expected, "{text}");
    }
}

#[test]
fn what_a_file_leaves_open_is_refused_row_by_row_and_read_as_told() {
    let text = "symbol;time;open;high;low;close;volume\nA;01/02/2024;1;2;1;1,5;\nA;01/03/2024;1;2;1;1,234;\n";
    let width = Some(Width::Seconds(86_400));
    let refused = bars(text, Options { width, ..Options::default() });
    assert!(
        refused.iter().all(|row| row.as_ref().is_err_and(|e| e.contains("--time-format"))),
        "{refused:?}"
    );
    let time_format = Some(TimeFormat::parse("month-first").unwrap());
    let options = Options { time_format, ..Options::default() };
    let expected =
        |second| [Ok(("2024-01-02".to_owned(), 1.5, None)), Ok(("2024-01-03".to_owned(), second, None))];
    assert_eq!(bars(text, options.clone()), expected(1.234), "1,5 has a decimal comma");
    let unclear = text.replace("1,5", "1");
    let rows = bars(&unclear, options.clone());
    assert!(
        rows[0].is_ok() && rows[1].as_ref().is_err_and(|e| e.contains("close") && e.contains("--decimal")),
        "{rows:?}"
    );
    let decimal = Some(DecimalMark::Point);
    assert_eq!(
        bars(&unclear, Options { decimal, ..options })[1],
        Ok(("2024-01-03".to_owned(), 1_234.0, None))
    );
}

#[test]
fn a_row_far_behind_decides_what_those_before_it_leave_open() {
    let mut text = "symbol,date,open,high,low,close\n".to_owned();
    for symbol in 0..3_000 {
        text.push_str(&format!("S{symbol},01/02/2024,1,2,1,2\n"));
    }
    let width = Some(Width::Seconds(86_400));
    let read = |text: &str| bars(text, Options { width, ..Options::default() }).remove(0);
    assert!(read(&text).is_err());
    text.push_str("A,25/01/2024,1,2,1,2\n");
    assert_eq!(read(&text), Ok(("2024-02-01".to_owned(), 2.0, None)));
}

#[test]
fn a_file_of_another_encoding_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = "\u{feff}symbol,time\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    file.write_all(&bytes).unwrap();
    let error = Table::open(file.path(), Options::default(), Timestamp::UNIX_EPOCH).err().unwrap();
    assert!(error.to_string().contains("UTF-16"), "{error}");
}
