//! What a stream has, what it lacks, and what it has already: the state between `parse` and the sink.
//!
//! Pure: it is told the time. Where trade ids are dense every number is accounted for: a number that was skipped opens a
//! gap, a number that comes again is dropped (also when REST stamps it a microsecond apart), a late one is taken and
//! closes its gap. Where they are not, gaps are stretches of time, and only what came lately is known by its identity:
//! the table's key does the rest.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use chrono::TimeDelta;

use crate::{
    feeds::TradeIds,
    kinds::{Bar, BarWidth, Record, Signal, Timestamp, Trade},
    store::{Batch, CursorMove, GapRow, GapStatus},
};

/// Channel of trades in cursors and gaps.
pub const TRADES: &str = "trades";
/// Trades over which the clock is judged, and the largest accepted median difference to the venue's.
const CLOCK_SAMPLES: usize = 100;
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);
/// Where ids are not dense, what came lately is remembered by its identity, so that an answer of REST shows what the
/// stream has lost: for this long, and no more than so many of one symbol.
const REMEMBERED: TimeDelta = TimeDelta::minutes(10);
const MAX_REMEMBERED: usize = 100_000;
/// How far before the newest row a stream without dense ids asks again: a row may be lost among later ones.
const OVERLAP: TimeDelta = TimeDelta::minutes(2);

/// A position to start from, out of `market.feed_cursors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Anchor {
    pub symbol: String,
    pub sequence: i64,
    pub event_time: Option<Timestamp>,
}

/// A gap that an earlier run left open or gave up, and which of its ids are stored by now.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownGap {
    pub row: GapRow,
    pub present: Vec<i64>,
}

/// A stretch to ask REST for.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    pub symbol: String,
    pub from: Timestamp,
    pub to: Timestamp,
    pub from_id: Option<i64>,
    pub to_id: Option<i64>,
}

/// A run of missing ids of one symbol.
struct Gap {
    row: GapRow,
    /// What of it is still missing: disjoint ranges by their first id.
    missing: BTreeMap<i64, i64>,
}

#[derive(Default)]
struct Series {
    /// Ids from `lowest` to `highest` are stored unless a gap has them.
    range: Option<(i64, i64)>,
    newest: Option<Timestamp>,
    /// By first id of the gap.
    gaps: BTreeMap<i64, Gap>,
    recent: Recent,
}

/// Identities of the newest trades of one symbol.
#[derive(Default)]
struct Recent {
    known: HashSet<u64>,
    order: VecDeque<(Timestamp, u64)>,
}

impl Recent {
    /// Whether the trade is new as far as this remembers.
    fn insert(&mut self, trade: &Trade) -> bool {
        let mut hasher = DefaultHasher::new();
        (&trade.trade_id, trade.event_time).hash(&mut hasher);
        let identity = hasher.finish();
        if !self.known.insert(identity) {
            return false;
        }
        self.order.push_back((trade.event_time, identity));
        while let Some((time, oldest)) = self.order.front().copied() {
            if self.order.len() <= MAX_REMEMBERED && trade.event_time - time <= REMEMBERED {
                break;
            }
            self.order.pop_front();
            self.known.remove(&oldest);
        }
        true
    }
}

/// The state of one feed's streams.
pub struct Tracker {
    feed: &'static str,
    ids: TradeIds,
    series: HashMap<String, Series>,
    open_bars: HashMap<(String, BarWidth), Bar>,
    frame_sequence: Option<i64>,
    delays: VecDeque<TimeDelta>,
    is_clock_wrong: bool,
}

impl Tracker {
    pub fn new(feed: &'static str, ids: TradeIds, anchors: Vec<Anchor>, gaps: Vec<KnownGap>) -> Self {
        let mut series = HashMap::<String, Series>::new();
        for anchor in anchors {
            // Everything up to the position is stored, unless a gap says otherwise.
            let range = (ids == TradeIds::Dense).then_some((i64::MIN, anchor.sequence));
            let place = Series { range, newest: anchor.event_time, ..Series::default() };
            series.insert(anchor.symbol, place);
        }
        for KnownGap { row, present } in gaps {
            if row.cause != "id" {
                continue;
            }
            let mut gap = Gap { missing: [(row.from_seq, row.to_seq)].into(), row };
            for id in present {
                take(&mut gap.missing, id);
            }
            let series = series.entry(gap.row.symbol.clone()).or_default();
            // A heartbeat may have told of trades after the newest stored one: a gap that covers them is open already.
            if let Some((_, highest)) = &mut series.range {
                *highest = gap.row.to_seq.max(*highest);
            }
            series.gaps.insert(gap.row.from_seq, gap);
        }
        Tracker {
            feed,
            ids,
            series,
            open_bars: HashMap::new(),
            frame_sequence: None,
            delays: VecDeque::new(),
            is_clock_wrong: false,
        }
    }

    /// A new connection numbers its frames anew; bars that were forming may have missed updates.
    pub fn on_connect(&mut self) {
        self.frame_sequence = None;
        self.open_bars.clear();
    }

    /// Symbols with a position, and their stretch from there to `now`: what a reconnect may have missed.
    pub fn since_last(&self, now: Timestamp) -> Vec<Stretch> {
        let mut stretches: Vec<_> = self
            .series
            .iter()
            .filter_map(|(symbol, series)| {
                let newest = series.newest?;
                let from = if self.ids == TradeIds::Dense { newest } else { newest - OVERLAP };
                let from_id = series.range.map(|(_, highest)| highest.saturating_add(1));
                Some(Stretch { symbol: symbol.clone(), from, to: now.max(from), from_id, to_id: None })
            })
            .collect();
        stretches.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        stretches
    }

    /// Gaps that are open, and the stretch each needs.
    pub fn open_gaps(&self) -> Vec<(GapRow, Stretch)> {
        let mut open: Vec<_> = self
            .series
            .values()
            .flat_map(|series| series.gaps.values())
            .filter(|gap| gap.row.status == GapStatus::Open)
            .map(|gap| {
                let row = &gap.row;
                let stretch = Stretch {
                    symbol: row.symbol.clone(),
                    // Clocks of matching engines are not strictly ordered like their ids.
                    from: row.from_time.unwrap_or(row.detected_at) - TimeDelta::seconds(1),
                    to: row.to_time.unwrap_or(row.detected_at) + TimeDelta::seconds(1),
                    from_id: Some(row.from_seq),
                    to_id: Some(row.to_seq),
                };
                (row.clone(), stretch)
            })
            .collect();
        open.sort_by(|(a, _), (b, _)| (&a.symbol, a.from_seq).cmp(&(&b.symbol, b.from_seq)));
        open
    }

    /// Gives up on a gap; ids that come after all are still taken.
    pub fn give_up(&mut self, row: &GapRow, now: Timestamp, note: String) -> Option<GapRow> {
        let gap = self.series.get_mut(&row.symbol)?.gaps.get_mut(&row.from_seq)?;
        if gap.row.status != GapStatus::Open {
            return None;
        }
        let missing: i64 =
            gap.missing.iter().map(|(from, to)| length(*from, *to)).fold(0, i64::saturating_add);
        gap.row.status = GapStatus::Unfillable;
        gap.row.filled_at = Some(now);
        gap.row.filled_rows = Some(length(gap.row.from_seq, gap.row.to_seq).saturating_sub(missing));
        gap.row.note = Some(note);
        Some(gap.row.clone())
    }

    /// Turns decoded records into rows to store and the bookkeeping they prove.
    pub fn absorb(&mut self, mut records: Vec<Record>, now: Timestamp) -> Batch {
        let mut batch = Batch::new(self.feed);
        if self.ids == TradeIds::Dense {
            // Packed newest first; in order of ids no gap is seen where there is none.
            records.sort_by_key(|record| match record {
                Record::Trade(trade) => trade.sequence,
                Record::Signal(Signal::NewestTrade { trade_id, .. }) => *trade_id,
                _ => i64::MIN,
            });
        }
        for record in records {
            match record {
                Record::Trade(trade) => self.trade(trade, now, &mut batch),
                Record::OpenBar(bar) => self.open_bar(bar, &mut batch),
                Record::Signal(Signal::FrameSequence(sequence)) => self.frame(sequence, now, &mut batch),
                Record::Signal(Signal::NewestTrade { symbol, trade_id }) => {
                    let series = self.series.entry(symbol.clone()).or_default();
                    // Without a position a heartbeat proves nothing: history is a back-fill's business.
                    if let Some((lowest, highest)) = series.range
                        && trade_id > highest
                    {
                        let ends = (series.newest, None);
                        open_gap(
                            series,
                            &symbol,
                            (highest.saturating_add(1), trade_id),
                            ends,
                            now,
                            &mut batch,
                        );
                        series.range = Some((lowest, trade_id));
                    }
                }
                Record::Signal(_) => {}
                row => batch.records.push(row),
            }
        }
        batch
    }

    fn trade(&mut self, mut trade: Trade, now: Timestamp, batch: &mut Batch) {
        self.judge_clock(&trade, now);
        if self.is_clock_wrong && trade.known_at != trade.event_time {
            trade.known_at = trade.received_at;
        }
        let series = self.series.entry(trade.symbol.clone()).or_default();
        let is_new = match self.ids {
            TradeIds::Dense => accept(series, &trade, now, batch),
            TradeIds::Sparse => series.recent.insert(&trade),
            TradeIds::Absent => true,
        };
        if !is_new {
            metrics::counter!("kronos_ingest_duplicates_total", "feed" => self.feed).increment(1);
            return;
        }
        series.newest = series.newest.max(Some(trade.event_time));
        let sequence = match (self.ids, series.range) {
            (TradeIds::Dense, Some((_, highest))) => highest,
            _ => series.newest.unwrap_or(trade.event_time).timestamp_micros(),
        };
        let event_time = series.newest;
        match batch.cursors.iter_mut().find(|cursor| cursor.symbol == trade.symbol) {
            Some(cursor) => (cursor.sequence, cursor.event_time) = (sequence, event_time),
            None => batch.cursors.push(CursorMove {
                channel: TRADES.to_owned(),
                symbol: trade.symbol.clone(),
                sequence,
                event_time,
            }),
        }
        batch.records.push(Record::Trade(trade));
    }

    /// A bar is final when a later one of its series starts.
    fn open_bar(&mut self, bar: Bar, batch: &mut Batch) {
        let key = (bar.symbol.clone(), bar.width);
        match self.open_bars.get(&key) {
            Some(held) if held.time > bar.time => {}
            Some(held) if held.time == bar.time && held.sequence > bar.sequence => {}
            Some(held) if held.time == bar.time => {
                self.open_bars.insert(key, bar);
            }
            Some(_) => {
                let done = self.open_bars.insert(key, bar);
                batch.records.extend(done.map(Record::Bar));
            }
            None => {
                self.open_bars.insert(key, bar);
            }
        }
    }

    /// Frames of a connection are numbered one by one; a jump means the server dropped some.
    fn frame(&mut self, sequence: i64, now: Timestamp, batch: &mut Batch) {
        let Some(last) = self.frame_sequence else {
            self.frame_sequence = Some(sequence);
            return;
        };
        self.frame_sequence = Some(last.max(sequence));
        if sequence > last.saturating_add(1) {
            let at = now.timestamp_micros();
            batch.gaps.push(GapRow {
                channel: "connection".to_owned(),
                symbol: "*".to_owned(),
                cause: "seq".to_owned(),
                // Numbers start anew with each connection, so the instant tells gaps apart.
                from_seq: at,
                to_seq: at,
                from_time: Some(now),
                to_time: Some(now),
                detected_at: now,
                status: GapStatus::Open,
                filled_at: None,
                filled_rows: None,
                note: Some(format!("frames {} to {}", last.saturating_add(1), sequence - 1)),
            });
        }
    }

    fn judge_clock(&mut self, trade: &Trade, now: Timestamp) {
        // History is old by nature; only what is stamped as it comes tells about the clocks.
        if trade.known_at == trade.event_time {
            return;
        }
        if self.delays.len() == CLOCK_SAMPLES {
            self.delays.pop_front();
        }
        self.delays.push_back((now - trade.event_time).abs());
        if self.delays.len() < CLOCK_SAMPLES {
            return;
        }
        let mut sorted: Vec<_> = self.delays.iter().copied().collect();
        let (_, median, _) = sorted.select_nth_unstable(CLOCK_SAMPLES / 2);
        let is_wrong = *median > MAX_CLOCK_SKEW;
        if is_wrong != self.is_clock_wrong {
            self.is_clock_wrong = is_wrong;
            let median_ms = median.num_milliseconds();
            tracing::warn!(feed = self.feed, median_ms, is_wrong, "clock of the venue against ours");
        }
        metrics::gauge!("kronos_ingest_clock_skew_seconds", "feed" => self.feed)
            .set(median.num_milliseconds() as f64 / 1e3);
    }
}

/// Whether a trade with a dense id is new; opens and closes gaps on the way.
fn accept(series: &mut Series, trade: &Trade, now: Timestamp, batch: &mut Batch) -> bool {
    let id = trade.sequence;
    let Some((lowest, highest)) = series.range else {
        series.range = Some((id, id));
        return true;
    };
    if id > highest {
        if id > highest.saturating_add(1) {
            let ends = (series.newest, Some(trade.event_time));
            open_gap(series, &trade.symbol, (highest.saturating_add(1), id - 1), ends, now, batch);
        }
        series.range = Some((lowest, id));
        return true;
    }
    if id < lowest {
        // Reordered first frames; what lies before the first trade ever seen is a back-fill's business.
        if id < lowest.saturating_sub(1) {
            let ends = (Some(trade.event_time), series.newest);
            open_gap(series, &trade.symbol, (id.saturating_add(1), lowest - 1), ends, now, batch);
        }
        series.range = Some((id, highest));
        return true;
    }
    let Some((_, gap)) = series.gaps.range_mut(..=id).next_back() else { return false };
    if !take(&mut gap.missing, id) {
        return false;
    }
    if gap.missing.is_empty() && gap.row.status == GapStatus::Open {
        gap.row.status = GapStatus::Filled;
        gap.row.filled_at = Some(now);
        gap.row.filled_rows = Some(length(gap.row.from_seq, gap.row.to_seq));
        batch.gaps.push(gap.row.clone());
    }
    if gap.missing.is_empty() {
        let from = gap.row.from_seq;
        series.gaps.remove(&from);
    }
    true
}

fn open_gap(
    series: &mut Series,
    symbol: &str,
    (from_seq, to_seq): (i64, i64),
    (from_time, to_time): (Option<Timestamp>, Option<Timestamp>),
    now: Timestamp,
    batch: &mut Batch,
) {
    let row = GapRow {
        channel: TRADES.to_owned(),
        symbol: symbol.to_owned(),
        cause: "id".to_owned(),
        from_seq,
        to_seq,
        from_time,
        to_time,
        detected_at: now,
        status: GapStatus::Open,
        filled_at: None,
        filled_rows: None,
        note: None,
    };
    batch.gaps.push(row.clone());
    series.gaps.insert(from_seq, Gap { row, missing: [(from_seq, to_seq)].into() });
}

/// Ids of a range; a hostile id must not overflow it.
fn length(from: i64, to: i64) -> i64 {
    to.saturating_sub(from).saturating_add(1)
}

/// Removes `id` from disjoint ranges; whether it was in one.
fn take(ranges: &mut BTreeMap<i64, i64>, id: i64) -> bool {
    let Some((&from, &to)) = ranges.range(..=id).next_back() else { return false };
    if id > to {
        return false;
    }
    ranges.remove(&from);
    if from < id {
        ranges.insert(from, id - 1);
    }
    if id < to {
        ranges.insert(id + 1, to);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trade(id: i64) -> Record {
        let at = crate::exact::micros(id * 1_000_000).unwrap();
        Record::Trade(Trade {
            symbol: "BTCUSD".into(),
            trade_id: id.to_string(),
            sequence: id,
            event_time: at,
            price: 1.into(),
            size: 1.into(),
            side: None,
            aggressor: None,
            venue: None,
            conditions: None,
            received_at: at,
            known_at: at,
            corrects: None,
        })
    }

    fn tracker(anchor: i64) -> Tracker {
        let event_time = crate::exact::micros(anchor * 1_000_000);
        let anchor = Anchor { symbol: "BTCUSD".into(), sequence: anchor, event_time };
        Tracker::new("coinbase", TradeIds::Dense, vec![anchor], Vec::new())
    }

    fn absorb(tracker: &mut Tracker, ids: &[i64]) -> (Vec<i64>, Vec<(i64, i64, GapStatus)>) {
        let batch = tracker.absorb(ids.iter().map(|id| trade(*id)).collect(), Timestamp::UNIX_EPOCH);
        let rows =
            batch.records.iter().map(|r| if let Record::Trade(t) = r { t.sequence } else { -1 }).collect();
        (rows, batch.gaps.iter().map(|gap| (gap.from_seq, gap.to_seq, gap.status)).collect())
    }

    #[test]
    fn packed_trades_newest_first_are_no_gap() {
        assert_eq!(absorb(&mut tracker(10), &[13, 12, 11]), (vec![11, 12, 13], vec![]));
    }

    #[test]
    fn a_skipped_id_is_a_gap_until_it_comes() {
        let mut tracker = tracker(10);
        assert_eq!(absorb(&mut tracker, &[14]), (vec![14], vec![(11, 13, GapStatus::Open)]));
        assert_eq!(absorb(&mut tracker, &[12]), (vec![12], vec![]));
        assert_eq!(tracker.open_gaps().len(), 1);
        assert_eq!(
            absorb(&mut tracker, &[11, 12, 13, 14]),
            (vec![11, 13], vec![(11, 13, GapStatus::Filled)])
        );
        assert_eq!(tracker.open_gaps(), []);
        assert_eq!(absorb(&mut tracker, &[11, 12, 13, 14]), (vec![], vec![]));
    }

    #[test]
    fn a_trade_of_a_lost_gap_is_still_taken() {
        let mut tracker = tracker(10);
        absorb(&mut tracker, &[13]);
        let (row, stretch) = tracker.open_gaps().remove(0);
        assert_eq!((stretch.from_id, stretch.to_id), (Some(11), Some(12)));
        let lost = tracker.give_up(&row, Timestamp::UNIX_EPOCH, "not listed".into()).unwrap();
        assert_eq!((lost.status, lost.filled_rows), (GapStatus::Unfillable, Some(0)));
        assert_eq!(tracker.open_gaps(), []);
        assert_eq!(absorb(&mut tracker, &[12]).0, [12]);
        assert_eq!(absorb(&mut tracker, &[12]).0, [0i64; 0]);
    }

    #[test]
    fn a_restart_knows_what_of_a_gap_is_stored() {
        let mut before = tracker(10);
        absorb(&mut before, &[14]);
        let row = before.open_gaps().remove(0).0;
        let anchor = Anchor { symbol: "BTCUSD".into(), sequence: 14, event_time: None };
        let known = KnownGap { row, present: vec![12] };
        let mut after = Tracker::new("coinbase", TradeIds::Dense, vec![anchor], vec![known]);
        assert_eq!(absorb(&mut after, &[11, 12, 13]), (vec![11, 13], vec![(11, 13, GapStatus::Filled)]));
    }

    #[test]
    fn a_trade_of_a_gap_that_an_earlier_run_gave_up_is_still_taken() {
        let mut before = tracker(10);
        absorb(&mut before, &[14]);
        let open = before.open_gaps().remove(0).0;
        let row = before.give_up(&open, Timestamp::UNIX_EPOCH, "not listed".into()).unwrap();
        let anchor = Anchor { symbol: "BTCUSD".into(), sequence: 14, event_time: None };
        let known = KnownGap { row, present: vec![12] };
        let mut after = Tracker::new("coinbase", TradeIds::Dense, vec![anchor], vec![known]);
        assert_eq!(after.open_gaps(), []);
        assert_eq!(absorb(&mut after, &[11, 12, 13, 14]), (vec![11, 13], vec![]));
    }

    #[test]
    fn a_restart_opens_no_second_gap_over_one_that_a_heartbeat_told_of() {
        let mut before = tracker(10);
        let newest =
            |trade_id| vec![Record::Signal(Signal::NewestTrade { symbol: "BTCUSD".into(), trade_id })];
        let row = before.absorb(newest(12), Timestamp::UNIX_EPOCH).gaps.remove(0);
        let anchor = Anchor { symbol: "BTCUSD".into(), sequence: 10, event_time: None };
        let mut after = Tracker::new(
            "coinbase",
            TradeIds::Dense,
            vec![anchor],
            vec![KnownGap { row, present: Vec::new() }],
        );
        assert_eq!(absorb(&mut after, &[14]), (vec![14], vec![(13, 13, GapStatus::Open)]));
        let filled = vec![(11, 12, GapStatus::Filled), (13, 13, GapStatus::Filled)];
        assert_eq!(absorb(&mut after, &[11, 12, 13, 14]), (vec![11, 12, 13], filled));
    }

    #[test]
    fn a_heartbeat_tells_of_trades_that_never_came() {
        let mut tracker = tracker(10);
        let newest = Record::Signal(Signal::NewestTrade { symbol: "BTCUSD".into(), trade_id: 12 });
        let batch = tracker.absorb(vec![newest], Timestamp::UNIX_EPOCH);
        assert_eq!((batch.gaps[0].from_seq, batch.gaps[0].to_seq), (11, 12));
        assert_eq!(absorb(&mut tracker, &[11, 12]).1, [(11, 12, GapStatus::Filled)]);
    }

    #[test]
    fn frames_that_skip_a_number_are_a_gap_of_the_connection() {
        let mut tracker = tracker(10);
        let mut frame =
            |n| tracker.absorb(vec![Record::Signal(Signal::FrameSequence(n))], Timestamp::UNIX_EPOCH).gaps;
        assert_eq!((frame(5).len(), frame(6).len()), (0, 0));
        assert_eq!(frame(8)[0].note.as_deref(), Some("frames 7 to 7"));
        assert_eq!(frame(11)[0].note.as_deref(), Some("frames 9 to 10"));
    }

    #[test]
    fn a_bar_is_stored_when_the_next_one_starts() {
        let mut tracker = tracker(10);
        let bar = |time: i64, sequence, close| {
            let time = crate::exact::micros(time * 60_000_000).unwrap();
            Record::OpenBar(Bar {
                symbol: "X".into(),
                width: BarWidth::of_seconds(60),
                time,
                open: 1.0,
                high: 2.0,
                low: 1.0,
                close,
                volume: None,
                amount: None,
                trade_count: None,
                close_adj: None,
                sequence,
                received_at: time,
                known_at: time,
            })
        };
        let mut put = |b| tracker.absorb(vec![b], Timestamp::UNIX_EPOCH).records;
        assert!(
            put(bar(1, 1, 1.0)).is_empty()
                && put(bar(1, 3, 1.5)).is_empty()
                && put(bar(1, 2, 9.0)).is_empty()
        );
        let done = put(bar(2, 4, 1.0));
        assert!(matches!(&done[..], [Record::Bar(b)] if b.close == 1.5), "{done:?}");
        assert!(put(bar(1, 9, 7.0)).is_empty(), "a late update of a stored bar is left to REST");
    }

    #[test]
    fn a_venue_whose_clock_is_off_does_not_stamp_known_at() {
        let mut tracker = tracker(0);
        let mut known = Vec::new();
        for id in 1..=CLOCK_SAMPLES as i64 + 1 {
            let Record::Trade(mut trade) = trade(id) else { unreachable!() };
            trade.received_at = trade.event_time + TimeDelta::seconds(60);
            trade.known_at = trade.event_time + TimeDelta::seconds(1);
            let (event_time, now) = (trade.event_time, trade.received_at);
            for record in tracker.absorb(vec![Record::Trade(trade)], now).records {
                let Record::Trade(trade) = record else { continue };
                known.push((trade.known_at - event_time).num_seconds());
            }
        }
        assert_eq!((known[0], known[CLOCK_SAMPLES]), (1, 60));
    }
}
