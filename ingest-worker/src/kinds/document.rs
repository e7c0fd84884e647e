//! Documents: what vendors say in a form of their own, kept as they said it, with every version.
//!
//! A document is a fact that has no table of its own (yet): a statement, an estimate, a piece of news. It is known by its
//! source, its kind and its key; a changed payload is a new version with a time of its own from which it was known, and
//! nothing is overwritten, so that what was known on a day can be asked for ever.

use std::collections::BTreeMap;

use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_postgres::{
    Transaction,
    types::{ToSql, Type},
};

use super::{Kind, Placed, Record, Row, Timestamp, Values, digest};
use crate::text::clean;

/// What an answer that lists a document proves of its other versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listing {
    /// The vendor tells how things stand: a payload that was seen before and comes again has come back.
    State,
    /// The vendor tells what happened, each version with its own time: one that was seen before is no news.
    Version,
}

/// A version of a document, a row of `market.documents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// What it is, for example `income-statement`.
    pub kind: String,
    /// Which one, within source and kind.
    pub key: String,
    /// Whom it is about; spelling of the feed until the driver maps it to the canonical symbol.
    pub symbol: Option<String>,
    /// When what it tells of happened, where it says so.
    pub event_time: Option<Timestamp>,
    /// First instant at which it could have been known: the vendor's publication, else `received_at`.
    pub known_at: Timestamp,
    pub received_at: Timestamp,
    pub listing: Listing,
    /// In the form of [`canonical`].
    pub payload: String,
    /// SHA-256 of the payload.
    pub digest: Vec<u8>,
}

impl Document {
    /// Bytes of a payload that are accepted.
    pub const MAX_PAYLOAD: usize = 1 << 20;

    /// A document without a symbol and a time of its own, known from `received_at`.
    ///
    /// # Errors
    /// A payload that is no JSON, or too large or too deep.
    pub fn new(
        kind: &str,
        key: impl Into<String>,
        payload: &str,
        received_at: Timestamp,
    ) -> Result<Self, String> {
        if payload.len() > Self::MAX_PAYLOAD {
            return Err(format!("document of more than {} bytes", Self::MAX_PAYLOAD));
        }
        let payload = canonical(payload)?;
        Ok(Document {
            kind: kind.to_owned(),
            key: clean(&key.into()).into_owned(),
            symbol: None,
            event_time: None,
            known_at: received_at,
            received_at,
            listing: Listing::State,
            digest: digest(payload.as_bytes()).to_vec(),
            payload,
        })
    }
}

/// Objects and arrays within each other that are accepted: fewer than what the server's own parser takes.
const MAX_DEPTH: usize = 100;

/// JSON in one form for all spellings of the same content: names sorted, no blanks, numbers digit by digit as they came (no
/// number passes through `f64`), texts without the characters that [`clean`] replaces.
///
/// # Errors
/// A text that is no JSON, or nested deeper than 100 levels.
pub fn canonical(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let value: &RawValue = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
    write(value, 0, &mut out)?;
    Ok(out)
}

fn write(value: &RawValue, depth: usize, out: &mut String) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("JSON of more than {MAX_DEPTH} levels"));
    }
    let text = value.get().trim();
    let failed = |e: serde_json::Error| format!("no JSON: {e}");
    match text.as_bytes().first() {
        Some(b'{') => {
            // Of two members of one name the last counts, as it does for jsonb.
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(failed)?;
            out.push('{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&spelled(&name));
                out.push(':');
                write(member, depth + 1, out)?;
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            out.push('[');
            for (i, item) in items.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, depth + 1, out)?;
            }
            out.push(']');
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(failed)?;
            out.push_str(&spelled(&text));
        }
        _ => out.push_str(text),
    }
    Ok(())
}

fn spelled(text: &str) -> String {
    serde_json::Value::from(clean(text)).to_string()
}

impl Row for Document {
    fn kind(&self) -> &'static dyn Kind {
        &Documents
    }

    fn symbol_mut(&mut self) -> Option<&mut String> {
        self.symbol.as_mut()
    }

    fn instrument(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    fn time(&self) -> Option<Timestamp> {
        Some(self.event_time.unwrap_or(self.known_at))
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }
}

/// The kind of [`Document`].
pub struct Documents;

const COLUMNS: &[(&str, Type)] = &[
    ("source", Type::TEXT),
    ("kind", Type::TEXT),
    ("key", Type::TEXT),
    ("symbol", Type::TEXT),
    ("event_time", Type::TIMESTAMPTZ),
    ("known_at", Type::TIMESTAMPTZ),
    ("received_at", Type::TIMESTAMPTZ),
    ("is_state", Type::BOOL),
    ("payload", Type::TEXT),
    ("digest", Type::BYTEA),
    ("place", Type::INT8),
];

/// The tables of the kinds in the staging table, and whose they are: the catalog is the only list of kinds with a table of
/// their own (`market.define_document_table`).
const TABLES: &str = "
select coalesce(t.relation, 'market.documents')::text, array_agg(s.kind)
from (select distinct kind from staging_documents) s
left join market.document_tables t on t.kind = s.kind
group by 1 order by 1";

/// Stores the versions of the staging table that are the `$1`th of their documents, of the kinds `$2`, whose table is `{table}`.
///
/// A version that the vendor stamps as older than what is stored (a restatement under the old date) was known only when it was
/// received. What is stored already is no version: by its own time where versions are listed, by the moment it was received
/// where it is delivered again, and by the version before it.
const MERGE: &str = "
with turn as (
  select * from (select s.*, row_number() over (partition by source, kind, key order by received_at, place) as turn
                 from staging_documents s where kind = any ($2)) as s
  where turn = $1
),
news as (
  select t.*, case when exists (select from {table} d
                                where (d.source, d.kind, d.key) = (t.source, t.kind, t.key) and d.known_at >= t.known_at)
              then greatest(t.known_at, t.received_at) else t.known_at end as since
  from turn t
  where not exists (select from {table} d
                    where (d.source, d.kind, d.key) = (t.source, t.kind, t.key) and d.digest = t.digest
                      and case when t.is_state then d.received_at = t.received_at else d.known_at = t.known_at end)
    -- What said the same as the one before it was not stored, and is no news when it is listed again.
    and (t.is_state or t.digest is distinct from (
      select d.digest from {table} d
      where (d.source, d.kind, d.key) = (t.source, t.kind, t.key) and d.known_at <= t.known_at
      order by d.known_at desc
      limit 1))
),
apart as (
  -- Two versions of one instant: the one that came later was known later.
  select n.*, case when exists (select from {table} d
                                where (d.source, d.kind, d.key) = (n.source, n.kind, n.key)
                                  and d.known_at = n.since and d.digest <> n.digest)
              then n.since + interval '1 microsecond' else n.since end as stamp
  from news n
)
insert into {table} (source, kind, key, symbol, event_time, known_at, received_at, payload, digest)
select source, kind, key, symbol, event_time, stamp, received_at, payload::jsonb, digest
from apart a
where digest is distinct from (select d.digest from {table} d
                               where (d.source, d.kind, d.key) = (a.source, a.kind, a.key) and d.known_at <= a.stamp
                               order by d.known_at desc limit 1)
on conflict do nothing";

/// The largest number of versions of one document of `kinds` among the rows.
fn turns(rows: &[Placed<'_>], kinds: &[String]) -> i64 {
    let mut counts = BTreeMap::<(&str, &str, &str), i64>::new();
    for row in rows {
        if let Record::Document(d) = row.record
            && kinds.contains(&d.kind)
        {
            *counts.entry((row.source.name, &d.kind, &d.key)).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

impl Kind for Documents {
    fn table(&self) -> &'static str {
        "documents"
    }

    fn columns(&self) -> &'static [(&'static str, Type)] {
        COLUMNS
    }

    fn shape(&self) -> String {
        "select source, kind, key, symbol, event_time, known_at, received_at, true as is_state, ''::text as payload, digest, 0::bigint as place
         from market.documents"
            .to_owned()
    }

    fn values<'r>(&self, row: &'r Placed<'r>, values: &mut Values<'r>) {
        let Record::Document(d) = row.record else { return };
        let row: [&(dyn ToSql + Sync); COLUMNS.len()] = [
            &row.source.name,
            &d.kind,
            &d.key,
            &d.symbol,
            &d.event_time,
            &d.known_at,
            &d.received_at,
            if d.listing == Listing::State { &true } else { &false },
            &d.payload,
            &d.digest,
            &row.place,
        ];
        values.extend(row);
    }

    fn names_its_source(&self) -> bool {
        true
    }

    fn merge<'m>(
        &'m self,
        transaction: &'m Transaction<'_>,
        rows: &'m [Placed<'m>],
    ) -> BoxFuture<'m, Result<u64, tokio_postgres::Error>> {
        async move {
            let mut stored = 0;
            for row in transaction.query(TABLES, &[]).await? {
                let (table, kinds): (String, Vec<String>) = (row.get(0), row.get(1));
                let merge = MERGE.replace("{table}", &table);
                let statement = transaction.prepare_typed(&merge, &[Type::INT8, Type::TEXT_ARRAY]).await?;
                for turn in 1..=turns(rows, &kinds) {
                    stored += transaction.execute(&statement, &[&turn, &kinds]).await?;
                }
            }
            Ok(stored)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_content_has_one_form_and_keeps_its_digits() {
        for (text, form) in [
            (
                r#" { "b" : [1.10, 12345678901234567890.123456789], "a" : null } "#,
                r#"{"a":null,"b":[1.10,12345678901234567890.123456789]}"#,
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#""\u0000\u001b[2J\u00e9\n""#, r#""��[2Jé\n""#),
            (r#"{"\u0000":{"z":{},"y":[]}}"#, r#"{"�":{"y":[],"z":{}}}"#),
            ("true", "true"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(form), "{text}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let endless = "[".repeat(1 << 16);
        for text in ["", "{", "<html>", "{\"a\":1}x", &deep, &endless] {
            assert!(canonical(text).is_err(), "{}", &text[..text.len().min(20)]);
        }
        let large = format!("\"{}\"", "x".repeat(Document::MAX_PAYLOAD));
        assert!(Document::new("k", "1", &large, Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn the_digest_is_of_the_content_not_of_its_spelling() {
        let digest = |text: &str| Document::new("k", "1", text, Timestamp::UNIX_EPOCH).unwrap().digest;
        assert_eq!(digest(r#"{"a":1,"b":2}"#), digest("{\"b\": 2,\n\"a\": 1}"));
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":1.0}"#), "what was written is what is compared");
    }
}
