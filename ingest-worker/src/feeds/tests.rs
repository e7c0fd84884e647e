use kronos_venue::{Protocol, Trade, Venue};

use super::*;
use crate::exact::micros;

#[test]
fn feed_names_are_unique_and_agree_with_their_feeds() {
    for (i, entry) in FEEDS.iter().enumerate() {
        assert_eq!(entry.build(FeedSettings::default()).map(|feed| feed.name()), Ok(entry.name));
        assert!(FEEDS[..i].iter().all(|earlier| earlier.name != entry.name), "{}", entry.name);
    }
}

/// 2023-11-14 22:13:20 UTC.
const TRADED: i64 = 1_700_000_000_000_000;

/// Symbols, times and times of knowledge, in microseconds after the trade, of the rows of a live frame that arrives
/// `delay` after the trade, and of a page of history that arrives an hour later.
fn known(protocol: Protocol, delay: i64) -> [Vec<(i64, i64)>; 3] {
    let symbol = if protocol.feed().starts_with("coinbase") { "BTC-USD" } else { "BTC/USD" };
    let trade = Trade {
        symbol: symbol.to_owned(),
        id: 1,
        micros: TRADED,
        price: "100.00".to_owned(),
        size: "1.0".to_owned(),
        is_buy: true,
    };
    let venue = Venue { protocol, trades: vec![trade.clone()], has_quotes: true };
    let settings = FeedSettings { rest_url: Some("http://venue".to_owned()), ..FeedSettings::default() };
    let feed = find(protocol.feed()).unwrap().stream(settings).unwrap();
    let after = |delay: i64| micros(TRADED + delay).unwrap();
    let live = [venue.frame(&venue.trades, 1), venue.quote(&trade, 2)];
    let live = live.map(|frame| feed.parse(frame.as_bytes(), after(delay)).unwrap());
    let (from, to) = (after(-1), after(1));
    let history = History::Trades { symbol: symbol.to_owned(), from, to, from_id: None, to_id: None };
    let request = feed.request(&history).unwrap();
    let (_, body) = venue.answer(request.url.strip_prefix("http://venue").unwrap(), 1);
    let page = feed.parse_page(&request, body.as_bytes(), after(3_600_000_000)).unwrap();
    let [trades, quotes] = live;
    [trades, quotes, page.records].map(|records| {
        let times = |record: &Record| match record {
            Record::Trade(t) => Some((t.event_time, t.known_at)),
            Record::Quote(q) => Some((q.event_time, q.known_at)),
            _ => None,
        };
        let since = |time: Timestamp| time.timestamp_micros() - TRADED;
        records.iter().filter_map(times).map(|(event, known)| (since(event), since(known))).collect()
    })
}

#[test]
fn what_is_live_is_known_when_it_was_published_or_received_and_history_when_it_happened() {
    const DELAY: i64 = 5_000_000;
    for protocol in [Protocol::CoinbaseExchange, Protocol::Kraken, Protocol::Alpaca, Protocol::AlpacaCrypto] {
        let expected = [vec![(0, DELAY)], vec![(0, DELAY)], vec![(0, 0)]];
        assert_eq!(known(protocol, DELAY), expected, "{protocol:?}");
        // A clock of ours that is behind makes nothing known before it happened.
        assert_eq!(known(protocol, -DELAY), [[(0, 0)], [(0, 0)], [(0, 0)]], "{protocol:?}");
    }
    // The envelope says when it was published: a millisecond after the trade, at once with the quote.
    for delay in [DELAY, -DELAY] {
        assert_eq!(known(Protocol::Coinbase, delay), [[(0, 1_000)], [(0, 0)], [(0, 0)]]);
    }
}

#[test]
fn recordings_are_attributed_by_their_address() {
    for (url, name) in [
        ("wss://ws-feed.pro.coinbase.com", Some("coinbase_exchange")),
        ("wss://ws.kraken.com", Some("kraken_v1")),
        ("wss://ws.kraken.com/v2", Some("kraken")),
        ("wss://stream.data.alpaca.markets/v2/iex", Some("alpaca")),
        ("wss://stream.data.alpaca.markets/v1beta3/crypto/us", Some("alpaca_crypto")),
        ("wss://stream.binance.com:9443/stream", None),
    ] {
        assert_eq!(of_url(url).map(|entry| entry.name), name, "{url}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let message = Message { text: "hunter2".into(), is_secret: true };
    let header = Secret("hunter2".into());
    assert!(!format!("{message:?} {header:?}").contains("hunter2"));
}
