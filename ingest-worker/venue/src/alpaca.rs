//! The frames of Alpaca: arrays of messages, a login before the subscription, no numbers and no heartbeat.

use crate::{
    protocol::{ALPACA_EXCHANGE, Protocol},
    trade::{Trade, rfc3339},
};

/// The account that the venue knows.
pub const KEY: &str = "venue-key";
pub const SECRET: &str = "venue-secret";

/// A trade as the stream and, without its kind and symbol, the REST interface have it.
pub(crate) fn fields(protocol: Protocol, trade: &Trade) -> String {
    let Trade { id, price, size, .. } = trade;
    let time = rfc3339(trade.micros);
    if protocol == Protocol::AlpacaCrypto {
        let taker = if trade.is_buy { "B" } else { "S" };
        format!(r#""i":{id},"p":{price},"s":{size},"tks":"{taker}","t":"{time}""#)
    } else {
        format!(r#""i":{id},"x":"{ALPACA_EXCHANGE}","p":{price},"s":{size},"c":["@"],"z":"C","t":"{time}""#)
    }
}

pub(crate) fn trades(protocol: Protocol, trades: &[Trade]) -> String {
    let items: Vec<_> = trades
        .iter()
        .map(|trade| format!(r#"{{"T":"t","S":"{}",{}}}"#, trade.symbol, fields(protocol, trade)))
        .collect();
    format!("[{}]", items.join(","))
}

pub(crate) fn quote(trade: &Trade, bid: &str, ask: &str) -> String {
    format!(
        r#"[{{"T":"q","S":"{}","bx":"{ALPACA_EXCHANGE}","bp":{bid},"bs":1,"ax":"{ALPACA_EXCHANGE}","ap":{ask},"as":2,"c":["R"],"z":"C","t":"{}"}}]"#,
        trade.symbol,
        rfc3339(trade.micros)
    )
}

/// The answers to a login or a subscription.
pub(crate) fn acknowledge(message: &serde_json::Value) -> Vec<String> {
    match message["action"].as_str() {
        Some("auth") if message["key"] == KEY && message["secret"] == SECRET => vec![
            r#"[{"T":"success","msg":"connected"}]"#.to_owned(),
            r#"[{"T":"success","msg":"authenticated"}]"#.to_owned(),
        ],
        Some("auth") => vec![r#"[{"T":"error","code":402,"msg":"auth failed"}]"#.to_owned()],
        Some("subscribe") => {
            let list = |name: &str| match &message[name] {
                serde_json::Value::Null => "[]".to_owned(),
                names => names.to_string(),
            };
            vec![format!(
                r#"[{{"T":"subscription","trades":{0},"quotes":{1},"bars":{2},"corrections":{0},"cancelErrors":{0}}}]"#,
                list("trades"),
                list("quotes"),
                list("bars")
            )]
        }
        _ => vec![r#"[{"T":"error","code":400,"msg":"invalid syntax"}]"#.to_owned()],
    }
}
