//! Frames and responses that no venue should send: nothing panics, nothing good is lost, nothing bad is stored.

// This file is tests alone, where a panic is how a failure is told.
#![allow(clippy::unwrap_used)]

use kronos_ingest::{
    drive::Tracker,
    exact::micros,
    feeds::{FEEDS, FeedSettings, History, StreamFeed, find},
    kinds::{Record, Timestamp},
    store::Batch,
};
use proptest::prelude::*;

fn now() -> Timestamp {
    micros(1_700_000_000_000_000).unwrap()
}

fn feeds() -> Vec<std::sync::Arc<dyn StreamFeed>> {
    FEEDS.iter().filter_map(|entry| entry.stream(FeedSettings::default()).ok()).collect()
}

/// One sound frame or response of each kind, to be damaged.
const FRAMES: &[&str] = &[
    r#"{"channel":"market_trades","client_id":"","timestamp":"2026-11-20T15:04:05.120034Z","sequence_num":418,"events":[{"type":"update","trades":[{"trade_id":"1102003344","product_id":"BTC-USD","price":"91234.56","size":"0.00210000","side":"SELL","time":"2026-11-20T15:04:05.101220Z"}]}]}"#,
    r#"{"channel":"candles","client_id":"","timestamp":"2026-11-20T15:04:05Z","sequence_num":4,"events":[{"type":"update","candles":[{"start":"1763510400","high":"2","low":"1","open":"1","close":"2","volume":"3","product_id":"BTC-USD"}]}]}"#,
    r#"{"type":"match","trade_id":880012,"side":"buy","size":"0.0021","price":"91230.09","product_id":"BTC-USD","sequence":99210033140,"time":"2026-11-20T15:04:01.320118Z"}"#,
    r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":91234.5,"qty":0.0021,"ord_type":"market","trade_id":91002233,"timestamp":"2026-11-20T15:00:02.440295Z"}]}"#,
    r#"{"channel":"ohlc","type":"update","timestamp":"2026-11-20T15:00:03.0Z","data":[{"symbol":"BTC/USD","interval":1,"interval_begin":"2026-11-20T15:00:00.000000000Z","open":91230.0,"high":91240.0,"low":91229.9,"close":91234.5,"volume":3.2,"vwap":91233.1,"trades":27,"timestamp":"2026-11-20T15:01:00Z"}]}"#,
    r#"[3649,[["0.043030","1081.72663000","1618678157.908268","b","l",""]],"trade","SC/EUR"]"#,
    r#"[{"T":"t","S":"AAPL","i":52983525029461,"x":"V","p":231.22,"s":100,"c":["@"],"z":"C","t":"2026-11-20T15:04:05.123456789Z"},{"T":"c","S":"AAPL","x":"V","oi":1,"ci":2,"cp":231.2,"cs":100,"t":"2026-11-20T15:05:01Z"}]"#,
    r#"{"chart":{"result":[{"meta":{"gmtoffset":-18000},"timestamp":[1763562600],"indicators":{"quote":[{"open":[661.0],"high":[665.1],"low":[659.2],"close":[664.3],"volume":[71000000]}],"adjclose":[{"adjclose":[664.3]}]}}],"error":null}}"#,
    r#"{"error":[],"result":{"XXBTZUSD":[["91234.5","0.0021",1763650802.4402951,"b","m","",91002233]],"last":"1763650802440295100"}}"#,
    r#"[[1763510400,1.0,4.0,2.0,3.0,5.0]]"#,
];

/// What a hostile peer puts in place of a value.
const VALUES: &[&str] = &[
    "null",
    "true",
    "-1",
    "1e308",
    "1e-400",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999999",
    "\"\"",
    "\"NaN\"",
    "\"-\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "\"\\u0000\"",
    "\"9999-12-31T23:59:59Z\"",
    "0.0000000000000000000000000000001",
];

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit = prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| (0u8, at, byte, 0usize)),
        any::<prop::sample::Index>().prop_map(|at| (1, at, 0, 0)),
        (any::<prop::sample::Index>(), 1usize..40).prop_map(|(at, length)| (2, at, 0, length)),
        (any::<prop::sample::Index>(), 0..VALUES.len()).prop_map(|(at, value)| (3, at, 0, value)),
    ];
    (0..FRAMES.len(), proptest::collection::vec(edit, 1..4)).prop_map(|(frame, edits)| {
        let mut bytes = FRAMES[frame].as_bytes().to_vec();
        for (kind, at, byte, n) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => {
                    let end = (at + n).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    // From the next colon to the next comma or bracket.
                    let Some(start) = bytes[at..].iter().position(|b| matches!(b, b':' | b'[' | b',')) else {
                        continue;
                    };
                    let start = at + start + 1;
                    let end = bytes[start..].iter().position(|b| matches!(b, b',' | b'}' | b']'));
                    let end = end.map_or(bytes.len(), |end| start + end);
                    bytes.splice(start..end, VALUES[n].bytes());
                }
            }
        }
        bytes
    })
}

fn feed_all(payload: &[u8]) {
    let histories = [
        History::Trades {
            symbol: "BTC-USD".into(),
            from: now(),
            to: now(),
            from_id: Some(1),
            to_id: Some(i64::MAX),
        },
        History::Bars {
            symbol: "BTC-USD".into(),
            width_seconds: 86_400,
            from: Timestamp::UNIX_EPOCH,
            to: now(),
        },
    ];
    for feed in feeds() {
        let mut tracker = Tracker::new(feed.name(), feed.trade_ids(), Vec::new(), Vec::new());
        let mut absorb = |records: Vec<Record>| check(&tracker.absorb(records, now()));
        if let Ok(records) = feed.parse(payload, now()) {
            absorb(records.clone());
            absorb(records);
        }
        for history in &histories {
            if let Some(request) = feed.request(history)
                && let Ok(page) = feed.parse_page(&request, payload, now())
            {
                absorb(page.records);
            }
        }
    }
}

/// What reaches the sink can be stored: finite prices, bars known at their end, quarantined text without NUL.
fn check(batch: &Batch) {
    for record in &batch.records {
        match record {
            Record::Bar(bar) => {
                assert!([bar.open, bar.high, bar.low, bar.close].iter().all(|x| x.is_finite()), "{bar:?}");
                assert!(bar.known_at >= bar.time, "{bar:?}");
            }
            Record::Rejected(rejected) => {
                assert!(!rejected.payload.contains('\0') && !rejected.reason.is_empty())
            }
            _ => {}
        }
    }
    assert!(serde_json::to_string(batch).is_ok());
}

/// As many cases as `PROPTEST_CASES` says, which a number given here would hide.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_096);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn damaged_frames_never_panic(payload in damaged()) {
        feed_all(&payload);
    }

    #[test]
    fn arbitrary_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        feed_all(&payload);
    }

    #[test]
    fn one_bad_item_never_takes_the_others_with_it(
        bad in proptest::sample::select(VALUES.iter().filter(|v| serde_json::from_str::<serde_json::Value>(v).is_ok()).copied().collect::<Vec<_>>()),
        field in 0usize..4,
        place in 0usize..5,
    ) {
        // Five trades to a frame; one value of one of them is hostile.
        let trade = |i: usize, packed: &str| {
            let mut values = [format!("\"{}\"", 100 + i), "\"91234.56\"".to_owned(), "\"0.5\"".to_owned(), "\"2026-11-20T15:04:05.101220Z\"".to_owned()];
            if i == place {
                values[field] = bad.to_owned();
            }
            let [id, price, size, time] = values;
            match packed {
                "coinbase" => format!(r#"{{"trade_id":{id},"product_id":"BTC-USD","price":{price},"size":{size},"side":"SELL","time":{time}}}"#),
                _ => format!(r#"{{"symbol":"BTC/USD","side":"buy","price":{price},"qty":{size},"trade_id":{},"timestamp":{time}}}"#, id.trim_matches('"')),
            }
        };
        for (name, head, tail) in [
            ("coinbase", r#"{"channel":"market_trades","timestamp":"2026-11-20T15:04:05Z","sequence_num":1,"events":[{"trades":["#, "]}]}"),
            ("kraken", r#"{"channel":"trade","type":"update","data":["#, "]}"),
        ] {
            let items: Vec<_> = (0..5).map(|i| trade(i, name)).collect();
            let frame = format!("{head}{}{tail}", items.join(","));
            // An id without text is no JSON at all: then the frame is quarantined whole, which the others cannot survive.
            if serde_json::from_str::<serde_json::Value>(&frame).is_err() {
                continue;
            }
            let feed = find(name).unwrap().stream(FeedSettings::default()).unwrap();
            let records = feed.parse(frame.as_bytes(), now()).unwrap();
            let good = records.iter().filter(|r| matches!(r, Record::Trade(t) if t.trade_id.parse::<i64>().is_ok_and(|id| (100..105).contains(&id)))).count();
            let rejected = records.iter().filter(|r| matches!(r, Record::Rejected(_))).count();
            prop_assert!(good >= 4, "{name}: {records:?}");
            prop_assert!(good + rejected <= 5);
        }
    }
}
