//! Kraken websocket v1, for recordings of it: the venue's live interface is v2 ([`super::kraken`]).
//!
//! v1 numbers no trades. Their identity is made from their content and from how many equal ones the same frame already
//! had, so that a repeated frame gives the same rows and two equal fills of one sweep stay two.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{History, Page, Plan, Request, StreamFeed, TradeIds, each, from_json};
use crate::{
    error::FeedError,
    exact::{Exact, unix_seconds},
    kinds::{Aggressor, Quote, Record, Signal, Timestamp, Trade},
};

pub(super) const NAME: &str = "kraken_v1";

/// The v1 parser; it has nothing to configure.
pub struct KrakenV1;

/// `{"channelID":1665,"channelName":"trade","event":"subscriptionStatus","pair":"WAVES/EUR","status":"subscribed",…}`
#[derive(Deserialize)]
struct EventFrame<'a> {
    event: &'a str,
    #[serde(rename = "channelName", default)]
    channel_name: Option<String>,
    #[serde(default)]
    pair: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(rename = "errorMessage", default)]
    error_message: Option<String>,
}

/// `["5.79130","1081.7266","1618678157.908268","b","m",""]`: price, volume, time, side, order type, misc.
#[derive(Deserialize)]
struct TradeItem<'a>(Exact, Exact, &'a str, &'a str, IgnoredAny, IgnoredAny);

/// `{"a":["17.07","22","22.3"],"b":["17.05","1","1.5"],…}`: price, whole lot volume, lot volume.
#[derive(Deserialize)]
struct Ticker {
    a: (Exact, Exact, Exact),
    b: (Exact, Exact, Exact),
}

impl KrakenV1 {
    fn trades(items: &[&RawValue], pair: &str, received_at: Timestamp, records: &mut Vec<Record>) {
        let mut equal_so_far: HashMap<String, u32> = HashMap::new();
        let mut position = 0;
        each(items, received_at, records, |item: TradeItem| {
            let TradeItem(price, size, time, side, _, _) = item;
            let event_time = unix_seconds(time)?;
            let content = format!("{time}/{}/{}/{side}", price.0, size.0);
            let nth = equal_so_far.entry(content.clone()).and_modify(|n| *n += 1).or_insert(0);
            position += 1;
            Ok(Record::Trade(Trade {
                symbol: pair.to_owned(),
                trade_id: format!("{content}/{nth}"),
                sequence: position - 1,
                event_time,
                price: price.0,
                size: size.0,
                side: Some(match side {
                    "b" => "buy".to_owned(),
                    "s" => "sell".to_owned(),
                    other => return Err(format!("side \"{other}\" is neither b nor s")),
                }),
                aggressor: Aggressor::parse(side),
                venue: None,
                conditions: None,
                received_at,
                known_at: received_at.max(event_time),
                corrects: None,
            }))
        });
    }

    fn event(frame: EventFrame) -> Vec<Record> {
        let signal = match (frame.event, frame.status.as_deref()) {
            ("heartbeat", _) => Signal::Heartbeat { counter: None },
            ("systemStatus", Some(status)) => Signal::System { status: status.to_owned() },
            ("subscriptionStatus", Some("subscribed")) => Signal::Subscribed {
                channel: frame.channel_name.unwrap_or_default(),
                symbols: frame.pair.into_iter().collect(),
            },
            ("subscriptionStatus", _) => Signal::Refused {
                channel: frame.channel_name.unwrap_or_default(),
                symbol: frame.pair.unwrap_or_default(),
                reason: frame.error_message.unwrap_or_else(|| "no reason given".to_owned()),
            },
            _ => return Vec::new(),
        };
        vec![Record::Signal(signal)]
    }
}

impl StreamFeed for KrakenV1 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, _now: Timestamp) -> Option<Plan> {
        None
    }

    fn parse(&self, payload: &[u8], received_at: Timestamp) -> Result<Vec<Record>, FeedError> {
        if payload.trim_ascii_start().first() == Some(&b'{') {
            return Ok(Self::event(from_json(payload)?));
        }
        // [channelID, data…, channelName, pair]: books carry one or two data items.
        let frame: Vec<&RawValue> = from_json(payload)?;
        let [_, data, .., channel, pair] = &frame[..] else {
            return Err(FeedError::Rejected(format!("frame of {} items", frame.len())));
        };
        // The venue escapes the slash of a pair in some messages, so these are no slices of the frame.
        let (channel, pair): (String, String) =
            (from_json(channel.get().as_bytes())?, from_json(pair.get().as_bytes())?);
        let mut records = Vec::new();
        match channel.as_str() {
            "trade" => {
                let items: Vec<&RawValue> = from_json(data.get().as_bytes())?;
                Self::trades(&items, &pair, received_at, &mut records);
            }
            "ticker" => {
                let ticker: Ticker = from_json(data.get().as_bytes())?;
                let mut quote = Quote {
                    symbol: pair,
                    // The frame has no time of its own.
                    event_time: received_at,
                    sequence: 0,
                    bid: Some(ticker.b.0.0),
                    bid_size: Some(ticker.b.2.0),
                    ask: Some(ticker.a.0.0),
                    ask_size: Some(ticker.a.2.0),
                    bid_venue: None,
                    ask_venue: None,
                    conditions: None,
                    received_at,
                    known_at: received_at,
                };
                quote.sequence = quote.content_sequence();
                records.push(Record::Quote(quote));
            }
            _ => {}
        }
        Ok(records)
    }

    fn request(&self, _history: &History) -> Option<Request> {
        None
    }

    fn parse_page(&self, _request: &Request, _body: &[u8], _at: Timestamp) -> Result<Page, FeedError> {
        Err(FeedError::Fatal("recordings of Kraken v1 have no REST history".to_owned()))
    }

    fn trade_ids(&self) -> TradeIds {
        TradeIds::Absent
    }

    fn request_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Record>, FeedError> {
        KrakenV1.parse(text.as_bytes(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn equal_fills_of_one_frame_stay_two_and_a_repeated_frame_adds_none() {
        let frame = r#"[3649,[["0.043030","1.50","1618678157.908268","b","l",""],["0.043030","1.50","1618678157.908268","b","l",""]],"trade","SC/EUR"]"#;
        let ids = |records: Vec<Record>| -> Vec<String> {
            records
                .into_iter()
                .map(|r| if let Record::Trade(t) = r { t.trade_id } else { String::new() })
                .collect()
        };
        let first = ids(parse(frame).unwrap());
        assert_eq!(first, ["1618678157.908268/0.043030/1.50/b/0", "1618678157.908268/0.043030/1.50/b/1"]);
        assert_eq!(ids(parse(frame).unwrap()), first);
    }

    #[test]
    fn books_are_ignored_and_short_frames_refused() {
        assert_eq!(parse(r#"[1,{"a":[]},{"b":[]},"book-1000","XMR/USD"]"#).unwrap(), []);
        assert!(matches!(parse("[1,2]"), Err(FeedError::Rejected(_))));
        assert!(matches!(parse(""), Err(FeedError::Rejected(_))));
    }

    #[test]
    fn a_ticker_is_a_quote() {
        let frame = r#"[993,{"a":["312.07","22","22.3"],"b":["312.05","1","1.5"],"c":["312.06","1"]},"ticker","XMR/USD"]"#;
        let records = parse(frame).unwrap();
        let [Record::Quote(quote)] = &records[..] else { panic!("{records:?}") };
        assert_eq!(quote.bid.unwrap().to_string(), "312.05");
        assert_eq!(quote.ask_size.unwrap().to_string(), "22.3");
    }
}
