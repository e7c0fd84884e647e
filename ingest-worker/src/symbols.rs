//! One name for each instrument, whatever its source calls it.
//!
//! `BTC-USD` of Coinbase, `BTC/USD` of Kraken and `XBT/USD` of its older interfaces are `BTCUSD`, `BRK-B` and `BRK/B` are `BRK.B`, so
//! that files, history and streams meet in one series. The table `market.instrument_symbols` has the last word; of what it does not
//! know only a form that has one meaning is followed, and everything else keeps its name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use chrono::{NaiveDate, Utc};
use tokio_postgres::Client;

use crate::kinds::Timestamp;

/// Currencies, and coins that others are quoted in, as venues write them.
const QUOTES: &[&str] = &[
    "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "TRY",
    "ZAR", "MXN", "BRL", "INR", "CNY", "CNH", "HKD", "SGD", "KRW", "THB", "IDR", "TWD", "ILS", "AED", "ARS",
    "UAH", "NGN", "BTC", "XBT", "ETH", "BNB", "USDT", "USDC", "DAI", "BUSD", "TUSD", "FDUSD", "PYUSD",
    "USDP", "USDG", "USDQ", "USDR", "RLUSD", "EURC", "EURT", "EURQ", "EURR",
];

/// Assets that a venue calls by another name.
const ASSETS: [(&str, &str); 2] = [("XBT", "BTC"), ("XDG", "DOGE")];

/// Our name of a whole asset.
fn asset(name: &str) -> &str {
    ASSETS.iter().find(|(theirs, _)| *theirs == name).map_or(name, |(_, ours)| ours)
}

/// Kraken's older name of a whole asset.
fn kraken_asset(name: &str) -> &str {
    ASSETS.iter().find(|(_, ours)| *ours == name).map_or(name, |(theirs, _)| theirs)
}

/// A pair in the spelling of Kraken's REST interface: `BTC/USD` is `XBTUSD`, and `WBTC/USD` is `WBTCUSD`.
pub fn kraken_pair(symbol: &str) -> String {
    let glued = || {
        let quotes = QUOTES.iter().filter_map(|quote| Some((symbol.strip_suffix(quote)?, *quote)));
        // BUSD ends with USD, too.
        quotes.filter(|(base, _)| base.len() > 1).max_by_key(|(_, quote)| quote.len())
    };
    match symbol.split_once('/').or_else(glued) {
        Some((base, quote)) => format!("{}{}", kraken_asset(base), kraken_asset(quote)),
        None => symbol.to_owned(),
    }
}

/// The name that the form of `name` tells: of a pair with a known quote, of a class of shares, of an index.
pub fn canonical(name: &str) -> Cow<'_, str> {
    if let Some(index) = name.strip_prefix('^').filter(|index| is_word(index)) {
        return Cow::Borrowed(index);
    }
    let Some((front, back)) = name.split_once(['-', '/', '_', ' ']) else { return Cow::Borrowed(name) };
    let (base, quote) = (front.to_ascii_uppercase(), back.to_ascii_uppercase());
    if !name.contains(' ') && base.len() > 1 && is_word(&base) && QUOTES.contains(&quote.as_str()) {
        return Cow::Owned(format!("{}{}", asset(&base), asset(&quote)));
    }
    let is_root = (1..=5).contains(&front.len()) && front.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_root && matches!(back, "A" | "B" | "C") && !name.contains('_') {
        return Cow::Owned(format!("{front}.{back}"));
    }
    Cow::Borrowed(name)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Our name of what a feed calls `native`: in capitals, and a pair whatever it is quoted in, because there `/` means nothing else.
pub fn of_feed(native: &str) -> String {
    let upper = native.to_uppercase();
    match (canonical(&upper), upper.split_once('/')) {
        (Cow::Borrowed(same), Some((base, quote))) if same == upper => {
            format!("{}{}", asset(base), asset(quote))
        }
        (name, _) => name.into_owned(),
    }
}

/// The names of one source, as the database has them and as their forms tell.
#[derive(Clone, Debug, Default)]
pub struct Names {
    is_literal: bool,
    /// `market.instrument_symbols` of the source: what each name means, and since when, the newest meaning first.
    aliases: HashMap<String, Vec<(Option<NaiveDate>, String)>>,
    /// Instruments that the database has under a name which has another form.
    kept: HashSet<String>,
    /// What has been renamed, and which names were kept.
    renamed: BTreeMap<String, String>,
    unchanged: BTreeMap<String, String>,
    /// The last question about a name that has one meaning, and its answer: rows of one instrument follow each other.
    last: Option<(String, Option<String>)>,
}

impl Names {
    /// Every name stays as it is.
    pub fn literal() -> Self {
        Names { is_literal: true, ..Names::default() }
    }

    /// What the database knows of the names of `source`.
    ///
    /// # Errors
    /// The database's error.
    pub async fn of_source(client: &Client, source: &str) -> Result<Self, tokio_postgres::Error> {
        let statement = "select native_symbol, symbol, nullif(since, '-infinity') from market.instrument_symbols \
                         where feed = $1 order by since desc";
        let mut aliases = HashMap::<String, Vec<_>>::new();
        for row in client.query(statement, &[&source]).await? {
            aliases.entry(row.get(0)).or_default().push((row.get(2), row.get(1)));
        }
        let instruments = client.query("select symbol from market.instruments", &[]).await?;
        let symbols = instruments.iter().map(|row| row.get::<_, String>(0));
        Ok(Names {
            aliases,
            kept: symbols.filter(|symbol| canonical(symbol) != *symbol).collect(),
            ..Names::default()
        })
    }

    /// Gives `symbol` our name of what was called so at `time`: tickers are handed on.
    pub fn rename(&mut self, symbol: &mut String, time: Option<Timestamp>) {
        if self.is_literal {
            return;
        }
        if self.is_handed_on(symbol) {
            if let Some(ours) = self.look_up(symbol, time) {
                *symbol = ours;
            }
            return;
        }
        if self.last.as_ref().is_none_or(|(native, _)| native != symbol) {
            let ours = self.look_up(symbol, time);
            self.last = Some((symbol.clone(), ours));
        }
        if let Some((_, Some(ours))) = &self.last {
            symbol.clone_from(ours);
        }
    }

    /// Whether a name means something from a day on only.
    fn is_handed_on(&self, native: &str) -> bool {
        self.aliases.get(native).is_some_and(|meanings| meanings.iter().any(|(since, _)| since.is_some()))
    }

    /// What a name that was handed on meant at `time`; `None` for one that always meant the same.
    pub fn of_day(&self, native: &str, time: Option<Timestamp>) -> Option<&String> {
        self.alias(native, time).filter(|_| self.is_handed_on(native))
    }

    /// What the database says that `native` meant at `time`, now without one.
    fn alias(&self, native: &str, time: Option<Timestamp>) -> Option<&String> {
        let meanings = self.aliases.get(native)?;
        let day = time.unwrap_or_else(Utc::now).date_naive();
        meanings.iter().find(|(since, _)| since.is_none_or(|since| since <= day)).map(|(_, ours)| ours)
    }

    /// Our name of `native`, where it is another.
    fn look_up(&mut self, native: &str, time: Option<Timestamp>) -> Option<String> {
        let ours = match self.alias(native, time) {
            Some(ours) => ours.clone(),
            None => canonical(native).into_owned(),
        };
        if ours == native {
            return None;
        }
        if self.kept.contains(native) && !self.aliases.contains_key(native) {
            self.unchanged.insert(native.to_owned(), ours);
            return None;
        }
        self.renamed.insert(native.to_owned(), ours.clone());
        Some(ours)
    }

    /// Our name of what the feed calls `native` today.
    pub fn of_feed(&self, native: &str) -> String {
        self.alias(native, None).cloned().unwrap_or_else(|| of_feed(native))
    }

    /// What was renamed and what was not, for people; `None` where every name is its own.
    pub fn told(&self) -> Option<String> {
        let list = |names: &BTreeMap<String, String>, verb: &str| {
            let shown: Vec<_> =
                names.iter().take(5).map(|(from, to)| format!("{from} {verb} {to}")).collect();
            let more = names.len().saturating_sub(shown.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}{more}", shown.join(", "))
        };
        let mut parts = Vec::new();
        if !self.renamed.is_empty() {
            parts.push(format!("renamed: {} (--symbols as-is keeps names)", list(&self.renamed, "to")));
        }
        if !self.unchanged.is_empty() {
            let names = list(&self.unchanged, "not to");
            parts.push(format!("not renamed, because the database has these instruments: {names}"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Writes down what was renamed, so that the same name means the same from now on.
    ///
    /// # Errors
    /// The database's error.
    pub async fn record(&self, client: &Client, source: &str) -> Result<(), tokio_postgres::Error> {
        let (native, ours): (Vec<&String>, Vec<&String>) = self.renamed.iter().unzip();
        write_down(client, source, &native, &ours).await
    }
}

/// Writes down which spelling of `source` means which instrument, where nobody has said so before.
///
/// # Errors
/// The database's error.
pub async fn write_down(
    client: &Client,
    source: &str,
    native: &[&String],
    ours: &[&String],
) -> Result<(), tokio_postgres::Error> {
    let statement = "insert into market.instrument_symbols (feed, native_symbol, symbol) \
                     select $1, n, s from unnest($2::text[], $3::text[]) as m (n, s) \
                     where exists (select from market.instruments i where i.symbol = s) \
                       and exists (select from market.sources where source = $1) \
                       and not exists (select from market.instrument_symbols o where o.feed = $1 and o.native_symbol = n) \
                     on conflict do nothing";
    client.execute(statement, &[&source, &native, &ours]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_instrument_is_one_name() {
        for (names, ours) in [
            (&["BTC-USD", "BTC/USD", "XBT/USD", "btc-usd", "BTC_USD", "BTCUSD"][..], "BTCUSD"),
            (&["ETH/XBT", "ETH-BTC"], "ETHBTC"),
            (&["XDG/USD", "DOGE-USD"], "DOGEUSD"),
            // Whole assets: neither is Bitcoin.
            (&["WBTC-USD"], "WBTCUSD"),
            (&["XBTC/USD"], "XBTCUSD"),
            (&["BTC-USDT"], "BTCUSDT"),
            (&["EUR/USD"], "EURUSD"),
            (&["BRK.B", "BRK-B", "BRK/B", "BRK B"], "BRK.B"),
            (&["^VIX", "VIX"], "VIX"),
        ] {
            for name in names {
                assert_eq!(canonical(name), ours, "{name}");
                assert_eq!(of_feed(name), ours, "{name}");
            }
        }
        // What is not certain stays.
        for name in [
            "AAPL",
            "VOD.L",
            "DX-Y.NYB",
            "AAPL/MSFT",
            "BAC-PL",
            "EURUSD=X",
            "ES_F",
            "a-b",
            "Series A",
            "X-USD",
            "^",
            "",
        ] {
            assert_eq!(canonical(name), name);
        }
        // A venue that writes pairs means a pair.
        assert_eq!(of_feed("DOT/KSM"), "DOTKSM");
        assert_eq!(of_feed("aapl"), "AAPL");
    }

    #[test]
    fn kraken_s_older_names_are_those_of_whole_assets() {
        for (symbol, pair) in [
            ("BTC/USD", "XBTUSD"),
            ("WBTC/USD", "WBTCUSD"),
            ("TBTC/EUR", "TBTCEUR"),
            ("BABYDOGE/USD", "BABYDOGEUSD"),
            ("DOGE/BTC", "XDGXBT"),
            ("WBTC/BTC", "WBTCXBT"),
            ("BTCUSD", "XBTUSD"),
            ("WBTCUSD", "WBTCUSD"),
            ("BTCUSDT", "XBTUSDT"),
            ("USDTUSD", "USDTUSD"),
            ("XBTUSD", "XBTUSD"),
        ] {
            assert_eq!(kraken_pair(symbol), pair);
        }
    }

    #[test]
    fn what_the_database_says_of_a_name_comes_first() {
        let mut names = Names {
            aliases: [("XBT-USD".to_owned(), vec![(None, "BITCOIN".to_owned())])].into(),
            kept: ["ETH-USD".to_owned()].into(),
            ..Names::default()
        };
        let mut of = |name: &str| {
            let mut name = name.to_owned();
            names.rename(&mut name, None);
            name
        };
        assert_eq!(
            ["XBT-USD", "XBT-USD", "ETH-USD", "LTC-USD", "SPY"].map(&mut of),
            ["BITCOIN", "BITCOIN", "ETH-USD", "LTCUSD", "SPY"]
        );
        let told = names.told().unwrap();
        assert!(told.contains("renamed: LTC-USD to LTCUSD, XBT-USD to BITCOIN (--symbols as-is"), "{told}");
        assert!(told.ends_with("the database has these instruments: ETH-USD not to ETHUSD"), "{told}");
        let mut name = "BTC-USD".to_owned();
        let mut literal = Names::literal();
        literal.rename(&mut name, None);
        assert_eq!((name.as_str(), literal.told()), ("BTC-USD", None));
        assert_eq!(names.of_feed("XBT-USD"), "BITCOIN");
    }

    #[test]
    fn a_ticker_that_was_handed_on_means_what_it_meant_on_the_day() {
        let meaning =
            |since: Option<&str>, ours: &str| (since.map(|day| day.parse().unwrap()), ours.to_owned());
        let mut names = Names {
            aliases: [
                // An exchange-traded fund had the ticker before.
                ("META".to_owned(), vec![meaning(Some("2022-06-09"), "META"), meaning(None, "METV")]),
                ("FB".to_owned(), vec![meaning(Some("2030-01-01"), "FB"), meaning(None, "META")]),
            ]
            .into(),
            ..Names::default()
        };
        for (native, time, ours) in [
            ("META", "2022-06-08T23:59:59Z", "METV"),
            ("META", "2022-06-09T00:00:00Z", "META"),
            ("META", "2021-01-04T00:00:00Z", "METV"),
            ("FB", "2012-05-18T13:30:00Z", "META"),
            ("FB", "2030-01-01T00:00:00Z", "FB"),
        ] {
            let mut name = native.to_owned();
            names.rename(&mut name, Some(time.parse().unwrap()));
            assert_eq!(name, ours, "{native} {time}");
        }
        assert_eq!(names.of_feed("META"), "META");
    }
}
