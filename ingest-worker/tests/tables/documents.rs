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
    // The second says what the first did.
    let listed = |received| {
        [("1", 1), ("1", 2), ("2", 3), ("1", 4)].map(|(payload, second)| version(payload, second, received))
    };
    tables.store(&[batch(listed(100))]);
    let expected = ["1 1", "2 3", "1 4"];
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
fn versions_of_one_delivery_keep_their_order_whatever_their_size() {
    let mut tables = Tables::new("documents_sizes");
    // Sizes that fill pages of a table to different degrees.
    let size = |n: i64| usize::try_from((n * 7_919) % 1_500).unwrap();
    let document = |n: i64| Document {
        key: (n % 50).to_string(),
        ..version(&format!("[{n},\"{}\"]", "x".repeat(size(n))), n, 10_000)
    };
    tables.store(&[batch((0..2_000).map(document))]);
    let misdated = "select count(*) from market.documents
                    where extract(epoch from known_at - to_timestamp(1700000000)) <> (payload ->> 0)::integer";
    assert_eq!(tables.rows(misdated), ["0"]);
    assert_eq!(tables.rows("select count(*) from market.documents"), ["2000"]);
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

/// A statement of a kind that has a table, seen at a second.
fn statement(payload: &str, received: i64) -> Document {
    let document = Document::new("fmp_income_statement", "AAA/2026-09-30/Q3", payload, at(received)).unwrap();
    Document { symbol: Some("AAA".to_owned()), ..document }
}

#[test]
fn a_kind_with_a_table_is_stored_there_with_its_values_as_columns() {
    let mut tables = Tables::new("documents_table");
    let payload = r#"{"date":"2026-09-30","period":"Q3","revenue":"12.5","epsdiluted":1.1,"weightedAverageShsOutDil":0}"#;
    let restated = r#"{"date":"2026-09-30","period":"Q3","revenue":13,"epsDiluted":null,"eps":"N/A"}"#;
    let plain = Document::new("things", "1", r#"{"revenue":1}"#, at(10)).unwrap();
    for _ in 0..2 {
        tables.store(&[batch([
            statement(payload, 10),
            plain.clone(),
            statement(restated, 20),
            statement(restated, 30),
        ])]);
    }
    let columns =
        "select extract(epoch from known_at)::bigint - 1700000000, symbol, period_end, period, revenue, eps,
                          eps_diluted, shares_diluted from market.fmp_income_statement order by known_at";
    assert_eq!(
        tables.rows(columns),
        ["10 AAA 2026-09-30 Q3 12.5 - 1.1 -", "20 AAA 2026-09-30 Q3 13 - - -"],
        "0 shares are none, and what is no number is not known"
    );
    assert_eq!(tables.rows("select kind from only market.documents"), ["things"]);
    assert_eq!(tables.rows("select count(*) from market.documents"), ["3"], "all are documents");
    assert_eq!(
        tables.rows(
            "select revenue from market.documents d join market.fmp_income_statement using (key)
                            where d.known_at = market.fmp_income_statement.known_at order by 1"
        ),
        ["12.5", "13"]
    );
}

#[test]
fn a_kind_takes_its_documents_along_into_its_table() {
    let mut tables = Tables::new("documents_move");
    let thing = |payload: &str, second| Document::new("things", "1", payload, at(second)).unwrap();
    tables.store(&[batch([thing(r#"{"weight":"1e3"}"#, 10), thing(r#"{"weight":true}"#, 20)])]);
    let define = "call market.define_document_table('things', 'Things.', array[['weight', 'number', 'weight', 'Weight.']])";
    tables.rows(define);
    tables.rows(define);
    tables.store(&[batch([thing(r#"{"weight":" 7 "}"#, 30)])]);
    assert_eq!(tables.rows("select weight from market.things order by known_at"), ["1000", "-", "7"]);
    assert_eq!(tables.rows("select count(*) from only market.documents"), ["0"]);
    let more = "call market.define_document_table('things', 'Things.', array[['weight', 'number', 'weight', 'Weight.'],
                                                                          ['is_heavy', 'boolean', 'weight', 'True.']])";
    tables.rows(more);
    assert_eq!(tables.rows("select is_heavy from market.things order by known_at"), ["-", "t", "-"]);
}

#[test]
fn metrics_are_known_with_the_statement_they_are_made_of_and_changed_ones_when_they_came() {
    let mut tables = Tables::new("documents_metrics");
    let metrics = |key: &str, payload: &str, received| {
        let document = Document::new("fmp_key_metrics", key, payload, at(received)).unwrap();
        Document { symbol: Some("AAA".to_owned()), ..document }
    };
    let filed = Document { known_at: at(5), ..statement("{}", 100) };
    let of = |payload: &str, received| metrics("AAA/2026-09-30/Q3", payload, received);
    tables.store(&[batch([filed, of("1", 100), of("2", 200), of("2", 300), metrics("AAA/ttm", "3", 100)])]);
    let known = "select payload, extract(epoch from known_at)::bigint - 1700000000 from market.fmp_key_metrics order by 1";
    assert_eq!(tables.rows(known), ["1 5", "2 200", "3 100"]);
    // Read again from the beginning, by another worker.
    tables.store(&[batch([of("2", 400), metrics("AAA/ttm", "3", 400)])]);
    assert_eq!(tables.rows(known), ["1 5", "2 200", "3 100"]);
}

#[test]
fn what_was_known_about_a_name_is_the_newest_of_each_kind() {
    let mut tables = Tables::new("documents_known");
    let estimate = |key: &str, payload: &str, second| {
        let document = Document::new("fmp_analyst_estimates", key, payload, at(second)).unwrap();
        Document { symbol: Some("AAA".to_owned()), event_time: Some(at(second + 5)), ..document }
    };
    let other = Document { symbol: Some("BBB".to_owned()), ..estimate("B", "9", 15) };
    tables.store(&[batch([statement("{}", 10), estimate("A", "1", 10), estimate("A", "2", 20), other])]);
    let known = |second: i64| {
        let query = format!(
            "select kind, payload, extract(epoch from age)::bigint, source from market.known('AAA', to_timestamp({}))",
            1_700_000_000 + second
        );
        tables.rows(&query)
    };
    assert_eq!(known(9), [] as [&str; 0]);
    assert_eq!(known(19), ["fmp_analyst_estimates 1 9 hello", "fmp_income_statement {} 9 hello"]);
    assert_eq!(known(21), ["fmp_analyst_estimates 2 1 hello", "fmp_income_statement {} 11 hello"]);
}
