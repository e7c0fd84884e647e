//! Versions of documents: none lost, none doubled, none known too early.

use kronos_ingest::{
    kinds::{Document, Listing, Record},
    store::Batch,
};

use crate::{at, database::Tables};

/// A payload of which the vendor says how things stand, seen at a second.
fn state(payload: &str, received: i64) -> Document {
    Document::new("estimate", "AAA-2027", payload, at(received)).unwrap()
}

/// A payload with a publication of its own, seen at a second.
fn version(payload: &str, published: i64, received: i64) -> Document {
    Document { known_at: at(published), listing: Listing::Version, ..state(payload, received) }
}

fn batch(documents: impl IntoIterator<Item = Document>) -> Batch {
    Batch { records: documents.into_iter().map(Record::Document).collect(), ..Batch::new("hello") }
}

/// Payload and second from which each version was known, in that order.
const VERSIONS: &str = "select payload, extract(epoch from known_at - to_timestamp(1700000000))::float8
                        from market.documents order by known_at";

#[test]
fn a_changed_payload_is_a_version_and_an_unchanged_one_is_none() {
    let mut tables = Tables::new("documents_state");
    let seen = [("1", 10), ("1", 20), ("2", 30), ("2", 40), ("1", 50), (" 1 ", 60)];
    let batches: Vec<_> = seen.iter().map(|(payload, second)| batch([state(payload, *second)])).collect();
    let expected = ["1 10", "2 30", "1 50"];
    for batch in &batches {
        tables.store(std::slice::from_ref(batch));
    }
    assert_eq!(tables.rows(VERSIONS), expected);
    // A worker that was killed stores again what it stored before, in any portions.
    for batch in &batches {
        tables.store(std::slice::from_ref(batch));
    }
    tables.store(&batches);
    assert_eq!(tables.rows(VERSIONS), expected);
}

#[test]
fn versions_that_come_together_are_told_apart_by_their_order() {
    let mut tables = Tables::new("documents_together");
    let all = [("1", 10), ("2", 20), ("2", 30), ("3", 40)].map(|(payload, second)| state(payload, second));
    tables.store(&[batch(all)]);
    assert_eq!(tables.rows(VERSIONS), ["1 10", "2 20", "3 40"]);
    // A page that moves while it is read shows one document twice.
    tables.store(&[batch([state("4", 50), state("5", 50)])]);
    let expected = ["1 10", "2 20", "3 40", "4 50", "5 50.000001"];
    assert_eq!(tables.rows(VERSIONS), expected);
    tables.store(&[batch([state("4", 50), state("5", 50)])]);
    assert_eq!(tables.rows(VERSIONS), expected);
}

#[test]
fn a_history_that_is_read_again_changes_nothing() {
    let mut tables = Tables::new("documents_history");
    let listed = |received| [version("1", 1, received), version("2", 2, received), version("1", 3, received)];
    tables.store(&[batch(listed(100))]);
    let expected = ["1 1", "2 2", "1 3"];
    assert_eq!(tables.rows(VERSIONS), expected);
    tables.store(&[batch(listed(200))]);
    assert_eq!(tables.rows(VERSIONS), expected);
    // Read one by one, and backwards: whatever is known when the oldest comes last is not known earlier for it.
    for one in listed(300).into_iter().rev() {
        tables.store(&[batch([one])]);
    }
    assert_eq!(tables.rows(VERSIONS), expected);
}

#[test]
fn a_restatement_under_the_old_date_is_known_when_it_came() {
    let mut tables = Tables::new("documents_restated");
    let stamped = |payload, received| Document { known_at: at(5), ..state(payload, received) };
    for (payload, received) in [("1", 10), ("1", 20), ("2", 30), ("2", 40), ("1", 50), ("1", 60)] {
        tables.store(&[batch([stamped(payload, received)])]);
    }
    assert_eq!(tables.rows(VERSIONS), ["1 5", "2 30", "1 50"]);
    let known = |second: i64| {
        let as_of =
            format!("select payload from market.documents_at(to_timestamp({}))", 1_700_000_000 + second);
        tables.rows(&as_of).join(",")
    };
    assert_eq!([known(4), known(29), known(30), known(99)], ["", "1", "2", "1"]);
}

#[test]
fn documents_are_apart_by_source_kind_and_key() {
    let mut tables = Tables::new("documents_apart");
    let other =
        |kind: &str, key: &str| Document { kind: kind.to_owned(), key: key.to_owned(), ..state("1", 10) };
    let symbol = Some("AAA".to_owned());
    tables.store(&[
        batch([other("a", "1"), other("a", "2"), other("b", "1")]),
        Batch { records: batch([Document { symbol, ..other("a", "1") }]).records, ..Batch::new("else") },
    ]);
    assert_eq!(
        tables.rows("select source, kind, key, symbol from market.documents order by 1, 2, 3"),
        ["else a 1 AAA", "hello a 1 -", "hello a 2 -", "hello b 1 -"]
    );
    assert_eq!(tables.rows("select symbol from market.instruments"), ["AAA"]);
    assert_eq!(tables.rows("select count(*) from market.sources where source in ('hello', 'else')"), ["2"]);
}
