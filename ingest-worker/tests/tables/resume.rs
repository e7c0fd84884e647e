//! Where a worker that starts finds its feeds.

use kronos_ingest::{
    drive::{Anchor, KnownGap},
    store::{Batch, CursorMove, GapRow, GapStatus, UsageRow},
};

use crate::{at, database::Tables, gap, trade, trades};

#[test]
fn a_worker_resumes_at_its_own_trades_and_knows_which_of_a_gap_are_stored() {
    let mut tables = Tables::new("resume");
    let cursor = |channel: &str, symbol: &str, sequence| CursorMove {
        channel: channel.to_owned(),
        symbol: symbol.to_owned(),
        sequence,
        event_time: Some(at(sequence)),
    };
    let mut batch = trades("coinbase", [trade(10), trade(12), trade(14)]);
    batch.cursors = vec![cursor("trades", "AAA", 14), cursor("replay", "AAA", 900)];
    let closed = |from_seq, status| GapRow {
        from_seq,
        to_seq: from_seq + 1,
        detected_at: at(from_seq),
        filled_at: Some(at(9)),
        filled_rows: Some(0),
        note: Some("not listed".to_owned()),
        ..gap(status)
    };
    let given_up = closed(7, GapStatus::Unfillable);
    batch.gaps = vec![gap(GapStatus::Open), closed(5, GapStatus::Filled), given_up.clone()];
    let mut other = trades("kraken", [trade(11)]);
    other.cursors = vec![cursor("trades", "BBB", 77)];
    other.gaps = vec![GapRow { symbol: "BBB".to_owned(), ..gap(GapStatus::Open) }];
    tables.store(&[batch, other, Batch::new("kraken")]);
    let (anchors, gaps) = tables.resume("coinbase");
    assert_eq!(anchors, [Anchor { symbol: "AAA".to_owned(), sequence: 14, event_time: Some(at(14)) }]);
    // What was given up may come all the same.
    let given_up = KnownGap { row: given_up, present: Vec::new() };
    assert_eq!(gaps, [given_up, KnownGap { row: gap(GapStatus::Open), present: vec![12] }]);
}

#[test]
fn a_worker_resumes_what_its_feed_has_used_of_the_last_days() {
    let mut tables = Tables::new("resume_usage");
    let today: chrono::NaiveDate = tables.rows("select (now() at time zone 'UTC')::date")[0].parse().unwrap();
    let row = |days_ago: u64, bytes| UsageRow {
        day: today - chrono::Days::new(days_ago),
        requests: 1,
        bytes,
        allowed: Some(500),
    };
    let batch = |feed: &str, usage| Batch { usage, ..Batch::new(feed) };
    tables.store(&[batch("fmp", vec![row(0, 70), row(40, 30), row(400, 9)]), batch("fred", vec![row(0, 5)])]);
    // A batch that waited on disk is older than what is stored.
    tables.store(&[batch("fmp", vec![row(0, 60)])]);
    let mut used = tables.resume_usage("fmp");
    used.sort_by_key(|row| row.day);
    assert_eq!(used, [row(40, 30), row(0, 70)]);
    assert_eq!(tables.resume_usage("hello"), []);
}
