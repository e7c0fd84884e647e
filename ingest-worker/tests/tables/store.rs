//! What one write leaves beside what was there before.

use kronos_ingest::{
    kinds::{Bar, BarWidth, Cancel, Quote, Record, Rejected, Trade},
    store::{Batch, CursorMove, GapRow, GapStatus, SessionRow},
};

use crate::{at, database::Tables, gap, quote, trade, trades};

fn position(sequence: i64, second: i64) -> Batch {
    let cursor = CursorMove {
        channel: "trades".to_owned(),
        symbol: "AAA".to_owned(),
        sequence,
        event_time: Some(at(second)),
    };
    Batch { cursors: vec![cursor], ..Batch::new("coinbase") }
}

#[test]
fn a_position_never_moves_back() {
    let mut tables = Tables::new("store_position");
    let stored = |tables: &Tables| {
        tables.rows(
            "select sequence, extract(epoch from event_time)::bigint - 1700000000 from market.feed_cursors",
        )
    };
    tables.store(&[position(9, 90)]);
    tables.store(&[position(5, 50)]);
    assert_eq!(stored(&tables), ["9 90"]);
    // Clocks of matching engines are not strictly ordered like their ids.
    tables.store(&[position(12, 80)]);
    assert_eq!(stored(&tables), ["12 90"]);
    tables.store(&[position(20, 200), position(15, 150)]);
    assert_eq!(stored(&tables), ["20 200"], "the last of a write need not be the furthest");
}

#[test]
fn a_closed_gap_stays_as_it_was_closed() {
    for (number, closed) in [GapStatus::Filled, GapStatus::Unfillable].into_iter().enumerate() {
        let mut tables = Tables::new("store_gap");
        let mut store = |gap: GapRow| {
            tables.store(&[Batch { gaps: vec![gap], ..Batch::new("coinbase") }]);
            tables.rows(
                "select status, filled_rows, extract(epoch from filled_at)::bigint - 1700000000, note
                 from market.feed_gaps",
            )
        };
        let close = |status, rows, second, note: &str| GapRow {
            filled_rows: Some(rows),
            filled_at: Some(at(second)),
            note: Some(note.to_owned()),
            ..gap(status)
        };
        assert_eq!(store(gap(GapStatus::Open)), ["open - - -"]);
        let expected = ["filled 3 20 first", "unfillable 3 20 first"][number];
        assert_eq!(store(close(closed, 3, 20, "first")), [expected]);
        assert_eq!(store(gap(GapStatus::Open)), [expected], "its news come again");
        assert_eq!(store(close(GapStatus::Filled, 0, 30, "second")), [expected]);
    }
}

fn bar(sequence: i64, close: f64, received: i64) -> Bar {
    Bar {
        symbol: "AAA".to_owned(),
        width: BarWidth::of_seconds(60),
        time: at(0),
        open: 1.0,
        high: 9.0,
        low: 1.0,
        close,
        volume: None,
        amount: None,
        trade_count: None,
        close_adj: None,
        sequence,
        received_at: at(received),
        known_at: at(60),
    }
}

fn bars(bars: impl IntoIterator<Item = Bar>) -> Batch {
    Batch { records: bars.into_iter().map(Record::Bar).collect(), ..Batch::new("alpaca") }
}

const STORED_BARS: &str = "select close, sequence, extract(epoch from received_at)::bigint - 1700000000
                           from market.bars order by close";

#[test]
fn of_two_revisions_of_a_bar_the_newer_one_stays_whichever_comes_last() {
    let mut tables = Tables::new("store_revisions");
    tables.store(&[bars([bar(2, 5.0, 70)])]);
    tables.store(&[bars([bar(1, 4.0, 80)])]);
    assert_eq!(tables.rows(STORED_BARS), ["5 2 70"]);
    tables.store(&[bars([bar(4, 7.0, 90), bar(3, 6.0, 95)])]);
    assert_eq!(tables.rows(STORED_BARS), ["7 4 90"], "also when both come at once");
    tables.store(&[bars([bar(5, 8.0, 100), bar(6, 9.0, 99)])]);
    assert_eq!(tables.rows(STORED_BARS), ["9 6 99"], "in either order");
}

#[test]
fn a_revision_that_changes_nothing_leaves_the_bar_as_it_came_first() {
    let mut tables = Tables::new("store_same_bar");
    tables.store(&[bars([bar(1, 5.0, 70)])]);
    tables.store(&[bars([bar(2, 5.0, 90)])]);
    assert_eq!(tables.rows(STORED_BARS), ["5 1 70"]);
}

/// Bars of the minutes in `range`.
fn minutes(range: std::ops::RangeInclusive<i64>, sequence: i64, close: f64) -> impl Iterator<Item = Bar> {
    range.map(move |minute| {
        let (time, known_at) = (at(60 * minute), at(60 * minute + 60));
        Bar { time, known_at, ..bar(sequence, close, 0) }
    })
}

/// Many at once are copied into their table directly, where none of them is known.
#[test]
fn of_many_bars_each_is_stored_once_in_its_newest_revision() {
    const CLOSES: &str =
        "select close, count(*), min(sequence), max(sequence) from market.bars group by 1 order by 1";
    let mut tables = Tables::new("store_many_bars");
    tables.store(&[bars(minutes(1..=100, 2, 5.0))]);
    assert_eq!(tables.rows(CLOSES), ["5 100 2 2"]);
    tables.store(&[bars(minutes(100..=200, 3, 6.0))]);
    assert_eq!(tables.rows(CLOSES), ["5 99 2 2", "6 101 3 3"]);
    tables.store(&[bars(minutes(150..=300, 1, 7.0).chain(minutes(201..=250, 4, 8.0)))]);
    assert_eq!(tables.rows(CLOSES), ["5 99 2 2", "6 101 3 3", "7 50 1 1", "8 50 4 4"]);
    let mut tables = Tables::new("store_many_bars_twice");
    tables.store(&[bars(minutes(1..=100, 2, 6.0).chain(minutes(1..=100, 1, 5.0)))]);
    assert_eq!(tables.rows(CLOSES), ["6 100 2 2"]);
}

#[test]
fn a_day_of_a_width_is_no_number_of_hours_and_a_month_no_number_of_days() {
    let mut tables = Tables::new("store_widths");
    let widths = [90, 3_600, 129_600, 604_800].map(BarWidth::of_seconds);
    let widths = widths.into_iter().chain([BarWidth { seconds: 0, months: 3 }]);
    let series: Vec<Bar> = widths.map(|width| Bar { width, ..bar(1, 5.0, 0) }).collect();
    let stored = "select bar_width from market.bars order by bar_width";
    let expected = ["00:01:30", "01:00:00", "1 day 12:00:00", "7 days", "3 mons"];
    // Through the staging table, and directly.
    tables.store(&[bars(series.clone())]);
    assert_eq!(tables.rows(stored), expected);
    tables.rows("truncate market.bars");
    tables.store(&[bars(series.into_iter().chain(minutes(1..=100, 1, 5.0)))]);
    assert_eq!(tables.rows("select distinct bar_width from market.bars where time = timestamptz 'epoch' + interval '1700000000 s' order by 1"), expected);
}

fn cancel(feed: &str, symbol: &str, id: i64, second: i64) -> Batch {
    let cancel = Cancel {
        symbol: symbol.to_owned(),
        trade_id: id.to_string(),
        cancelled_at: at(second),
        is_correction: false,
        received_at: at(second),
    };
    Batch { records: vec![Record::Cancel(cancel)], ..Batch::new(feed) }
}

/// Trades that are taken back, and when.
const CANCELLED: &str = "select feed, symbol, trade_id, extract(epoch from cancelled_at)::bigint - 1700000000
                         from market.trades where cancelled_at is not null order by 1, 2, event_time";

#[test]
fn a_trade_that_was_taken_back_before_it_came_is_marked_when_it_comes() {
    for feed in ["alpaca", "alpaca_crypto"] {
        let mut tables = Tables::new("store_cancelled_before");
        tables.store(&[cancel(feed, "AAA", 50, 120)]);
        // So many that another feed's would be copied into their table directly.
        tables.store(&[trades(feed, (1..=100).map(trade))]);
        assert_eq!(tables.rows(CANCELLED), [format!("{feed} AAA 50 120")]);
        assert_eq!(tables.rows("select count(*) from market.trades"), ["100"]);
    }
}

#[test]
fn a_trade_that_is_taken_back_is_marked_and_no_other_of_its_number() {
    const DAY: i64 = 86_400;
    let mut tables = Tables::new("store_cancelled_after");
    let namesakes = [
        trade(50),
        Trade { symbol: "BBB".to_owned(), ..trade(50) },
        // Numbers come again after some sessions.
        Trade { event_time: at(120 - 10 * DAY), ..trade(50) },
    ];
    tables.store(&[trades("alpaca", namesakes), trades("alpaca_crypto", [trade(50)])]);
    tables.store(&[cancel("alpaca", "AAA", 50, 120)]);
    assert_eq!(tables.rows(CANCELLED), ["alpaca AAA 50 120"]);
    tables.store(&[cancel("alpaca", "AAA", 50, 130)]);
    assert_eq!(tables.rows(CANCELLED), ["alpaca AAA 50 120"], "once");
}

#[test]
fn a_known_trade_among_many_new_ones_is_stored_once_and_as_it_came_first() {
    let mut tables = Tables::new("store_known");
    tables.store(&[trades("coinbase", (1..=100).map(trade))]);
    let later = (100..=200).map(|id| Trade { price: 7.into(), ..trade(id) });
    tables.store(&[trades("coinbase", later)]);
    let stored =
        "select price, count(*), min(sequence), max(sequence) from market.trades group by 1 order by 1";
    assert_eq!(tables.rows(stored), ["7 100 101 200", "100 100 1 100"]);
}

#[test]
fn a_write_is_stored_whole_or_not_at_all() {
    let mut tables = Tables::new("store_whole");
    tables.rows("alter table market.feed_sessions add check (url <> 'wrong')");
    let session = |url: &str| SessionRow {
        url: url.to_owned(),
        opened_at: at(0),
        closed_at: None,
        close_code: None,
        close_reason: None,
        frames: 1,
        bytes: 1,
        last_frame_at: None,
    };
    let mut batch = trades("coinbase", (1..=100).map(trade));
    batch.cursors = position(100, 100).cursors;
    batch.gaps = vec![gap(GapStatus::Open)];
    // The last that is stored of a batch.
    batch.sessions = vec![session("wrong")];
    assert!(tables.try_store(&[batch.clone()]).is_err());
    let counts = "select (select count(*) from market.trades), (select count(*) from market.feed_cursors),
                         (select count(*) from market.feed_gaps), (select count(*) from market.feed_sessions)";
    assert_eq!(tables.rows(counts), ["0 0 0 0"]);
    batch.sessions = vec![session("right")];
    tables.store(&[batch]);
    assert_eq!(tables.rows(counts), ["100 1 1 1"]);
}

#[test]
fn whatever_is_delivered_again_is_one_row() {
    let mut tables = Tables::new("store_again");
    let quote = quote(1);
    let mut all = trades("alpaca", [trade(1)]);
    all.records.extend([
        Record::Quote(quote.clone()),
        Record::Quote(Quote { sequence: 2, ..quote }),
        Record::Bar(bar(1, 5.0, 70)),
        Record::Rejected(Rejected::new(b"noise", "unreadable", at(1))),
    ]);
    all.records.extend(cancel("alpaca", "AAA", 1, 2).records);
    all.gaps = vec![gap(GapStatus::Open)];
    let counts = "select (select count(*) from market.trades), (select count(*) from market.quotes),
                         (select count(*) from market.bars), (select count(*) from market.trade_cancels),
                         (select count(*) from market.rejected_rows), (select count(*) from market.feed_gaps)";
    tables.store(&[all.clone(), all.clone()]);
    assert_eq!(tables.rows(counts), ["1 2 1 1 1 1"]);
    tables.store(&[all]);
    assert_eq!(tables.rows(counts), ["1 2 1 1 1 1"]);
}
