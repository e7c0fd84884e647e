//! What is read of Financial Modeling Prep: a line for each endpoint.
//!
//! `known` says how the vendor dates what it lists. It gives estimates, profiles, consensus and calendars no date of publication, so
//! they are known when they came, and their history is what was stored day by day.

use std::time::Duration;

use crate::feeds::{
    Endpoint, Scope,
    listed::{
        Field, Known, Listed, Pages,
        Part::{Asked, Hash, Is, Of, Symbol},
    },
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const DATE: Field = &["date"];
const PERIOD: Field = &["period"];
const SYMBOL: Field = &["symbol"];
const URL: Field = &["url", "newsURL", "link"];

/// Statements, and what is computed from them, have one key for one period.
const STATEMENT: &[super::super::listed::Part] = &[Symbol, Of(DATE), Of(PERIOD)];
const FILED: Known =
    Known::Filed { accepted: &["acceptedDate"], filed: &["filingDate", "fillingDate"], period_end: DATE };

const fn endpoint(name: &'static str, path: &'static str, every: u64, scope: Scope) -> Endpoint {
    // Smaller plans have most endpoints for some symbols alone.
    let is_planned_by_symbol = matches!(scope, Scope::Symbol);
    Endpoint { name, path, limit: "account", every: Duration::from_secs(every), scope, is_planned_by_symbol }
}

/// Of each symbol.
const fn each(name: &'static str, path: &'static str, every: u64) -> Endpoint {
    endpoint(name, path, every, Scope::Symbol)
}

/// Of all at once.
const fn all(name: &'static str, path: &'static str, every: u64) -> Endpoint {
    endpoint(name, path, every, Scope::Whole)
}

const fn statement(endpoint: Endpoint, kind: &'static str, known: Known) -> Listed {
    Listed { event: Some(DATE), kilobytes: 150, ..Listed::new(endpoint, kind, STATEMENT, known) }
}

/// Bars that are adjusted for splits, not for dividends: a split changes all of them.
const fn prices(name: &'static str, path: &'static str, every: u64, pages: Pages, kilobytes: u32) -> Listed {
    let line = Listed::new(each(name, path, every), "bars", &[], Known::NextSession(DATE));
    Listed { is_of_bars: true, pages, kilobytes, ..line }
}

pub(super) const TABLE: &[Listed] = &[
    // Before the metrics, which are dated by them.
    statement(
        each("income-statement", "/income-statement?symbol={symbol}&period=quarter&limit=120", DAY),
        "fmp_income_statement",
        FILED,
    ),
    statement(
        each("income-statement-annual", "/income-statement?symbol={symbol}&period=annual&limit=40", 7 * DAY),
        "fmp_income_statement",
        FILED,
    ),
    statement(
        each("balance-sheet", "/balance-sheet-statement?symbol={symbol}&period=quarter&limit=120", DAY),
        "fmp_balance_sheet",
        FILED,
    ),
    statement(
        each(
            "balance-sheet-annual",
            "/balance-sheet-statement?symbol={symbol}&period=annual&limit=40",
            7 * DAY,
        ),
        "fmp_balance_sheet",
        FILED,
    ),
    statement(
        each("cash-flow", "/cash-flow-statement?symbol={symbol}&period=quarter&limit=120", DAY),
        "fmp_cash_flow",
        FILED,
    ),
    statement(
        each("cash-flow-annual", "/cash-flow-statement?symbol={symbol}&period=annual&limit=40", 7 * DAY),
        "fmp_cash_flow",
        FILED,
    ),
    statement(
        each("key-metrics", "/key-metrics?symbol={symbol}&period=quarter&limit=120", DAY),
        "fmp_key_metrics",
        Known::Received,
    ),
    statement(
        each("key-metrics-annual", "/key-metrics?symbol={symbol}&period=annual&limit=40", 7 * DAY),
        "fmp_key_metrics",
        Known::Received,
    ),
    Listed::new(
        each("key-metrics-ttm", "/key-metrics-ttm?symbol={symbol}", DAY),
        "fmp_key_metrics",
        &[Symbol, Is("ttm")],
        Known::Received,
    ),
    statement(
        each("ratios", "/ratios?symbol={symbol}&period=quarter&limit=120", DAY),
        "fmp_ratios",
        Known::Received,
    ),
    statement(
        each("ratios-annual", "/ratios?symbol={symbol}&period=annual&limit=40", 7 * DAY),
        "fmp_ratios",
        Known::Received,
    ),
    Listed::new(
        each("ratios-ttm", "/ratios-ttm?symbol={symbol}", DAY),
        "fmp_ratios",
        &[Symbol, Is("ttm")],
        Known::Received,
    ),
    Listed {
        event: Some(DATE),
        pages: Pages::Numbered { most: 10 },
        ..Listed::new(
            each(
                "analyst-estimates",
                "/analyst-estimates?symbol={symbol}&period=quarter&page={page}&limit=100",
                DAY,
            ),
            "fmp_analyst_estimates",
            &[Symbol, Is("quarter"), Of(DATE)],
            Known::Received,
        )
    },
    Listed {
        event: Some(DATE),
        pages: Pages::Numbered { most: 10 },
        ..Listed::new(
            each(
                "analyst-estimates-annual",
                "/analyst-estimates?symbol={symbol}&period=annual&page={page}&limit=100",
                DAY,
            ),
            "fmp_analyst_estimates",
            &[Symbol, Is("annual"), Of(DATE)],
            Known::Received,
        )
    },
    Listed::new(
        each("ratings-snapshot", "/ratings-snapshot?symbol={symbol}", DAY),
        "fmp_rating",
        &[Symbol, Is("now")],
        Known::Received,
    ),
    Listed {
        event: Some(DATE),
        ..Listed::new(
            each("ratings-historical", "/ratings-historical?symbol={symbol}&limit=10000", 7 * DAY),
            "fmp_rating",
            &[Symbol, Of(DATE)],
            Known::NextSession(DATE),
        )
    },
    Listed {
        event: Some(DATE),
        ..Listed::new(
            each("grades", "/grades?symbol={symbol}", DAY),
            "fmp_grades",
            &[Symbol, Of(DATE), Of(&["gradingCompany"])],
            Known::NextSession(DATE),
        )
    },
    Listed {
        event: Some(DATE),
        ..Listed::new(
            each("grades-historical", "/grades-historical?symbol={symbol}&limit=1000", 7 * DAY),
            "fmp_grades_historical",
            &[Symbol, Of(DATE)],
            Known::NextSession(DATE),
        )
    },
    Listed::new(
        each("grades-consensus", "/grades-consensus?symbol={symbol}", DAY),
        "fmp_grades_consensus",
        &[Symbol],
        Known::Received,
    ),
    Listed::new(
        each("profile", "/profile?symbol={symbol}", DAY),
        "dim_company_profile",
        &[Symbol],
        Known::Received,
    ),
    Listed {
        event: Some(&["publishedDate"]),
        pages: Pages::Numbered { most: 100 },
        ..Listed::new(
            each("price-target-news", "/price-target-news?symbol={symbol}&page={page}&limit=100", DAY),
            "fmp_price_targets_v4",
            &[Symbol, Of(&["publishedDate"]), Hash(URL)],
            Known::Published(&["publishedDate"]),
        )
    },
    Listed::new(
        each("price-target-summary", "/price-target-summary?symbol={symbol}", DAY),
        "fmp_price_target_summary",
        &[Symbol],
        Known::Received,
    ),
    Listed::new(
        each("price-target-consensus", "/price-target-consensus?symbol={symbol}", DAY),
        "fmp_price_target_consensus",
        &[Symbol],
        Known::Received,
    ),
    prices(
        "prices",
        "/historical-price-eod/full?symbol={symbol}&from={from}&to={to}",
        DAY,
        Pages::Windows { days: 30, history: 21, back: 7, ahead: 0 },
        4,
    ),
    prices(
        "prices-history",
        "/historical-price-eod/full?symbol={symbol}&from={from}&to={to}",
        30 * DAY,
        Pages::Windows { days: 3_650, history: 10_950, back: 10_950, ahead: 0 },
        400,
    ),
    // Whether a symbol is a fund is known by whether it has holdings.
    Listed {
        symbol: Some(&["asset"]),
        omit: &["updatedAt", "updated"],
        kilobytes: 20,
        ..Listed::new(
            each("etf-holdings", "/etf/holdings?symbol={symbol}", 7 * DAY),
            "fmp_etf_holdings",
            &[Asked, Symbol],
            Known::Received,
        )
    },
    // An item about several symbols comes once for each, under one address.
    Listed {
        event: Some(&["publishedDate"]),
        symbol: Some(SYMBOL),
        pages: Pages::Numbered { most: 20 },
        ..Listed::new(
            all("stock-news-latest", "/news/stock-latest?page={page}&limit=100", 5 * MINUTE),
            "fmp_news",
            &[Hash(URL), Symbol],
            Known::Published(&["publishedDate"]),
        )
    },
    Listed {
        event: Some(&["publishedDate"]),
        symbol: Some(SYMBOL),
        pages: Pages::Numbered { most: 20 },
        ..Listed::new(
            all("press-releases-latest", "/news/press-releases-latest?page={page}&limit=100", 5 * MINUTE),
            "fmp_news",
            &[Hash(URL), Symbol],
            Known::Published(&["publishedDate"]),
        )
    },
    Listed {
        event: Some(&["publishedDate"]),
        pages: Pages::Numbered { most: 100 },
        ..Listed::new(
            each("stock-news", "/news/stock?symbols={symbol}&page={page}&limit=100", 7 * DAY),
            "fmp_news",
            &[Hash(URL), Symbol],
            Known::Published(&["publishedDate"]),
        )
    },
    // May be gone from the vendor's offer: refused, it rests, and nothing asks for it.
    Listed {
        event: Some(DATE),
        pages: Pages::Numbered { most: 100 },
        ..Listed::new(
            each("social-sentiment", "/historical/social-sentiment?symbol={symbol}&page={page}", 6 * HOUR),
            "fmp_social_sentiment",
            &[Symbol, Of(DATE)],
            Known::HourAfter(DATE),
        )
    },
    Listed {
        event: Some(DATE),
        pages: Pages::Windows { days: 90, history: 3650, back: 7, ahead: 80 },
        ..Listed::new(
            all("economic-calendar", "/economic-calendar?from={from}&to={to}", HOUR),
            "fmp_economic_calendar",
            &[Of(&["country"]), Of(&["event"]), Of(DATE)],
            Known::Received,
        )
    },
    Listed {
        event: Some(DATE),
        symbol: Some(SYMBOL),
        pages: Pages::Windows { days: 7, history: 365, back: 7, ahead: 90 },
        ..Listed::new(
            all("earnings-calendar", "/earnings-calendar?from={from}&to={to}", 6 * HOUR),
            "fmp_earnings",
            &[Symbol, Of(DATE)],
            Known::Received,
        )
    },
    Listed {
        event: Some(DATE),
        ..Listed::new(
            each("earnings", "/earnings?symbol={symbol}&limit=1000", 7 * DAY),
            "fmp_earnings",
            &[Symbol, Of(DATE)],
            Known::Received,
        )
    },
];
