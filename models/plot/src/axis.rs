//! Round ticks for prices and for time.

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Share of a step within which a value is on a tick.
const ON_TICK: f64 = 1e-6;

/// The price axis: a range that its values fill, with round ticks inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Least value shown.
    pub low: f64,
    /// Greatest value shown.
    pub high: f64,
    step: f64,
    /// The ticks are these multiples of the step.
    first: i64,
    last: i64,
    /// The power of ten that labels are written in, where plain digits would be many.
    exponent: Option<i32>,
}

/// Room beyond the outermost values, as a share of what lies between them.
const ROOM: f64 = 0.04;

impl Scale {
    /// A range about every value with about `intervals` steps; `None` without a value.
    pub fn of(values: impl Iterator<Item = f64>, intervals: usize) -> Option<Self> {
        let (mut low, mut high) = values.fold(None, |range, value| match range {
            None => Some((value, value)),
            Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
        })?;
        // A constant gets a range about itself; so does what rounding alone keeps apart.
        let size = low.abs().max(high.abs());
        if high - low <= 1e-12 * size || high - low < f64::MIN_POSITIVE {
            let room = if size > 1e-290 { 0.01 * size } else { 1.0 };
            (low, high) = (low - room, high + room);
        } else {
            let room = ROOM * (high - low);
            // Prices and volumes do not go below zero, so their axis does not.
            let floor = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
            (low, high) = ((low - room).max(floor), high + room);
        }
        // Of round steps the one whose ticks are nearest in number to what was asked for; of two, the wider.
        let power = 10f64.powf(((high - low) / intervals.max(1) as f64).log10().floor());
        // A value on a tick but for a rounding is on it, or the unit of prices would decide how many ticks there are.
        let ticks =
            |step: f64| ((low / step - ON_TICK).ceil() as i64, (high / step + ON_TICK).floor() as i64);
        let off = |&step: &f64| (ticks(step).1 - ticks(step).0 - intervals as i64).unsigned_abs();
        let steps = [10.0, 5.0, 2.0, 1.0, 0.5].map(|factor| factor * power);
        let step = steps.into_iter().min_by_key(off).unwrap_or(power);
        let (first, last) = ticks(step);
        let size = low.abs().max(high.abs());
        let exponent = (!(1e-6..1e12).contains(&size)).then(|| size.log10().floor() as i32);
        Some(Self { low, high, step, first, last, exponent })
    }

    /// Where a value lies between the ends: 0 at the bottom, 1 at the top.
    pub fn position(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The ticks from bottom to top.
    pub fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (self.first..=self.last).map(|tick| tick as f64 * self.step)
    }

    /// A tick as the axis writes it: all with as many decimals as tell them apart, in the same power of ten, and with
    /// thousands grouped in all of them or in none.
    pub fn label(&self, value: f64) -> String {
        let unit = self.exponent.map_or(1.0, |exponent| 10f64.powi(exponent));
        let step = self.step / unit;
        let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 17.0) as usize;
        // Steps of a tick's arithmetic may leave a zero that is not quite one, or negative.
        let value = if value.abs() < self.step * 1e-6 { 0.0 } else { value / unit };
        let digits = format!("{value:.decimals$}");
        match self.exponent {
            Some(exponent) => format!("{digits}e{exponent}"),
            None if self.ticks().any(|tick| tick.abs() >= 9999.5) => grouped(&digits),
            None => digits,
        }
    }
}

/// Commas between thousands.
fn grouped(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let digits = whole.trim_start_matches('-');
    let mut text = String::from(if whole.starts_with('-') { "-" } else { "" });
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len() - place;
        if place > 0 && left % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// A tick of the time axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeTick {
    /// Which slot it is below.
    pub slot: usize,
    /// Time of day, date, month or year.
    pub label: String,
    /// The date or year, below the first tick and where it changes.
    pub period: Option<String>,
}

/// What ticks of time stand for.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Micros(i64),
    Week,
    Months(i32),
}

const UNITS: [Unit; 20] = [
    Unit::Micros(SECOND),
    Unit::Micros(10 * SECOND),
    Unit::Micros(MINUTE),
    Unit::Micros(5 * MINUTE),
    Unit::Micros(15 * MINUTE),
    Unit::Micros(30 * MINUTE),
    Unit::Micros(HOUR),
    Unit::Micros(2 * HOUR),
    Unit::Micros(6 * HOUR),
    Unit::Micros(12 * HOUR),
    Unit::Micros(DAY),
    Unit::Week,
    Unit::Months(1),
    Unit::Months(3),
    Unit::Months(6),
    Unit::Months(12),
    Unit::Months(24),
    Unit::Months(60),
    Unit::Months(120),
    Unit::Months(1200),
];

impl Unit {
    /// Its shortest length.
    fn length(self) -> i64 {
        match self {
            Self::Micros(micros) => micros,
            Self::Week => 7 * DAY,
            Self::Months(months) => i64::from(months) * 28 * DAY,
        }
    }

    /// The number of the unit that an instant of the wall clock falls into.
    fn number(self, wall: i64) -> i64 {
        match self {
            Self::Micros(micros) => wall.div_euclid(micros),
            // 2000-01-03 was a Monday.
            Self::Week => (wall - 2 * DAY).div_euclid(7 * DAY),
            Self::Months(months) => local(wall)
                .map_or(0, |at| i64::from((at.year() * 12 + at.month0() as i32).div_euclid(months))),
        }
    }

    /// How a tick is written, and the period it belongs to.
    fn formats(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Micros(micros) if micros < MINUTE => ("%H:%M:%S", Some("%Y-%m-%d")),
            Self::Micros(micros) if micros < DAY => ("%H:%M", Some("%Y-%m-%d")),
            Self::Micros(_) | Self::Week => ("%b %-d", Some("%Y")),
            Self::Months(months) if months < 12 => ("%b", Some("%Y")),
            Self::Months(_) => ("%Y", None),
        }
    }
}

/// Ticks of the finest unit that gives at most `most`, none nearer to another than `apart` slots.
///
/// A tick stands below the first bar of its unit, so that markets with closing hours have them too. Where two would be
/// too near, the one that opens a date or a year stays.
pub fn time_ticks(walls: &[i64], most: usize, apart: usize) -> Vec<TimeTick> {
    // Bars an hour apart are told apart by hours, however few they are.
    let spacing =
        walls.windows(2).map(|pair| pair[1] - pair[0]).filter(|&spacing| spacing > 0).min().unwrap_or(MINUTE);
    let starts = |unit: Unit| -> Vec<usize> {
        let opens = |wall: i64| unit.length() <= spacing || unit.number(wall) != unit.number(wall - 1);
        let first = walls.first().filter(|&&wall| opens(wall)).map(|_| 0);
        let later = walls.windows(2).enumerate();
        let later =
            later.filter(|(_, pair)| unit.number(pair[0]) != unit.number(pair[1])).map(|(i, _)| i + 1);
        first.into_iter().chain(later).collect()
    };
    let finest = UNITS.iter().rposition(|unit| unit.length() <= spacing).unwrap_or(0);
    let fits =
        UNITS[finest..].iter().map(|&unit| (unit, starts(unit))).find(|(_, slots)| slots.len() <= most);
    let Some((unit, mut slots)) = fits else { return Vec::new() };
    if slots.is_empty() && !walls.is_empty() {
        slots.push(0);
    }
    let (label, period) = unit.formats();
    let write = |slot: usize, format: &str| {
        local(walls[slot]).map(|at| at.format(format).to_string()).unwrap_or_default()
    };
    let opens = |slot: usize| match period {
        Some(period) => slot > 0 && write(slot, period) != write(slot - 1, period),
        None => false,
    };
    let mut by_rank = slots;
    by_rank.sort_by_key(|&slot| (!opens(slot), slot));
    let mut kept: Vec<usize> = Vec::new();
    for slot in by_rank {
        if kept.iter().all(|&other| slot.abs_diff(other) >= apart.max(1)) {
            kept.push(slot);
        }
    }
    kept.sort_unstable();
    let mut before = None;
    kept.into_iter()
        .map(|slot| {
            let period = period.map(|format| write(slot, format));
            let changed = period.clone().filter(|period| before.as_ref() != Some(period));
            before = period;
            TimeTick { slot, label: write(slot, label), period: changed }
        })
        .collect()
}

/// An instant of the wall clock to the minute, for headlines; empty beyond the years that can be written.
pub fn moment(wall: i64) -> String {
    local(wall).map(|at| at.format("%Y-%m-%d %H:%M").to_string()).unwrap_or_default()
}

fn local(wall: i64) -> Option<NaiveDateTime> {
    NaiveDate::from_ymd_opt(2000, 1, 1)?
        .and_hms_opt(0, 0, 0)?
        .checked_add_signed(TimeDelta::microseconds(wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(low: f64, high: f64) -> Scale {
        Scale::of([low, high].into_iter(), 5).unwrap()
    }

    fn labels(scale: Scale) -> Vec<String> {
        scale.ticks().map(|tick| scale.label(tick)).collect()
    }

    /// Microseconds since 2000 of a wall clock.
    fn wall(text: &str) -> i64 {
        let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
        (at - NaiveDate::from_ymd_opt(2000, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap())
            .num_microseconds()
            .unwrap()
    }

    fn hourly(from: &str, count: i64) -> Vec<i64> {
        (0..count).map(|hour| wall(from) + hour * HOUR).collect()
    }

    fn shown(ticks: &[TimeTick]) -> Vec<String> {
        ticks
            .iter()
            .map(|tick| format!("{} {} {}", tick.slot, tick.label, tick.period.as_deref().unwrap_or("-")))
            .collect()
    }

    #[test]
    fn prices_get_round_ticks_on_an_axis_that_they_fill() {
        assert_eq!(labels(scale(10.0, 20.0)), ["10", "12", "14", "16", "18", "20"]);
        assert_eq!(
            labels(scale(61_012.5, 63_960.0)),
            ["61,000", "61,500", "62,000", "62,500", "63,000", "63,500", "64,000"]
        );
        assert_eq!(labels(scale(-0.3, 0.7)), ["-0.2", "0.0", "0.2", "0.4", "0.6"]);
        assert_eq!(labels(scale(1.08412, 1.08455)), ["1.0842", "1.0843", "1.0844", "1.0845"]);
        // From 4 % of the range below to 4 % above: of 10.8, 5.4 lie below 15.
        assert!((scale(10.0, 20.0).low - 9.6).abs() < 1e-12);
        assert!((scale(10.0, 20.0).position(15.0) - 0.5).abs() < 1e-12);
        // Whatever the range, its values take more than nine tenths of the height.
        for (low, high) in
            [(0.0, 1.0), (99.0, 131.0), (-7.3, 2.1), (1e-12, 3e-12), (1e12, 7e12), (4999.0, 10_001.0)]
        {
            let scale = scale(low, high);
            assert!(scale.position(high) - scale.position(low) > 0.9, "{low} {high}: {scale:?}");
            assert!((2..=11).contains(&scale.ticks().count()), "{low} {high}: {:?}", labels(scale));
        }
        // What is never negative has an axis that is not.
        assert_eq!(scale(0.1, 100.0).low, 0.0);
    }

    #[test]
    fn ticks_of_one_axis_are_written_alike() {
        assert_eq!(labels(scale(-11_000.0, 6_000.0)), ["-10,000", "-5,000", "0", "5,000"]);
        assert_eq!(labels(scale(1_000.0, 6_000.0)), ["1000", "2000", "3000", "4000", "5000", "6000"]);
        assert_eq!(labels(scale(2.1e-8, 2.9e-8)), ["2.2e-8", "2.4e-8", "2.6e-8", "2.8e-8"]);
        assert_eq!(
            labels(scale(0.0, 1.2e-8)),
            ["0.0e-8", "0.2e-8", "0.4e-8", "0.6e-8", "0.8e-8", "1.0e-8", "1.2e-8"]
        );
        assert_eq!(labels(scale(9e11, 1.1e12)), ["0.90e12", "0.95e12", "1.00e12", "1.05e12", "1.10e12"]);
    }

    /// The ticks are those of the unit, each label is read as its own tick, and no two are the same.
    #[test]
    fn an_axis_in_any_unit_has_the_ticks_of_the_unit() {
        let ranges =
            [(10.0, 20.0), (1.08412, 1.08455), (61_012.5, 63_960.0), (-0.3, 0.7), (99.999_99, 100.000_01)];
        for (low, high) in ranges {
            let expected: Vec<f64> = scale(low, high).ticks().collect();
            for power in -12..=12 {
                let unit = 10f64.powi(power);
                let scale = scale(low * unit, high * unit);
                let ticks: Vec<f64> = scale.ticks().collect();
                assert_eq!(ticks.len(), expected.len(), "{low} to {high}, 1e{power}");
                let mut labels = labels(scale);
                for ((label, tick), expected) in labels.iter().zip(ticks).zip(&expected) {
                    let read: f64 = label.replace(',', "").parse().unwrap();
                    let room = 0.01 * scale.step;
                    assert!((read - tick).abs() < room, "1e{power}: {label} for {tick:e}");
                    assert!(
                        (tick - expected * unit).abs() < room,
                        "1e{power}: {tick:e}, expected {expected} of it"
                    );
                }
                labels.dedup();
                assert_eq!(labels.len(), expected.len(), "1e{power}: {labels:?}");
            }
        }
    }

    #[test]
    fn a_constant_has_a_range_about_itself() {
        for value in [100.0, -3.0, 0.0, 1e-300, 1e299, 1e-12, 1e12, 61_234.000_000_001] {
            let scale = scale(value, value);
            assert!(scale.low < value && value < scale.high, "{value}: {scale:?}");
            assert!((2..20).contains(&scale.ticks().count()), "{value}: {scale:?}");
            let mut written = labels(scale);
            written.dedup();
            assert_eq!(written.len(), scale.ticks().count(), "{value}: {written:?}");
        }
        assert_eq!(Scale::of(std::iter::empty(), 5), None);
    }

    #[test]
    fn hours_of_a_market_that_never_closes() {
        let ticks = time_ticks(&hourly("2024-01-16 21:00", 24), 8, 2);
        assert_eq!(shown(&ticks), ["3 00:00 2024-01-17", "9 06:00 -", "15 12:00 -", "21 18:00 -"]);
    }

    #[test]
    fn days_of_a_market_that_closes_tick_where_they_open() {
        let walls: Vec<i64> =
            (17..=19).chain(22..=23).flat_map(|day| hourly(&format!("2024-01-{day} 09:30"), 7)).collect();
        let ticks = time_ticks(&walls, 6, 3);
        assert_eq!(shown(&ticks), ["7 Jan 18 2024", "14 Jan 19 -", "21 Jan 22 -", "28 Jan 23 -"]);
    }

    #[test]
    fn dates_give_way_to_years_where_they_meet() {
        let walls: Vec<i64> = (0..500).map(|day| wall("2023-06-01 00:00") + day * DAY).collect();
        let ticks = time_ticks(&walls, 8, 20);
        assert_eq!(
            shown(&ticks),
            ["30 Jul 2023", "122 Oct -", "214 Jan 2024", "305 Apr -", "396 Jul -", "488 Oct -"]
        );
        // The first of January is nearer to the first of December than 40 bars.
        let ticks = time_ticks(&walls[..250], 10, 40);
        assert!(shown(&ticks).contains(&"214 Jan 2024".to_owned()), "{ticks:?}");
        assert!(!shown(&ticks).iter().any(|tick| tick.starts_with("183")), "{ticks:?}");
    }

    #[test]
    fn one_bar_is_labelled_and_none_is_not() {
        assert_eq!(shown(&time_ticks(&[wall("2024-01-16 21:07")], 8, 1)), ["0 21:07 2024-01-16"]);
        assert_eq!(
            shown(&time_ticks(&hourly("2024-01-16 22:30", 3), 8, 1)),
            ["0 22:30 2024-01-16", "1 23:30 -", "2 00:30 2024-01-17"]
        );
        let months = ["2023-11-01 00:00", "2023-12-01 00:00", "2024-01-01 00:00"].map(wall);
        assert_eq!(shown(&time_ticks(&months, 8, 1)), ["0 Nov 2023", "1 Dec -", "2 Jan 2024"]);
        assert!(time_ticks(&[], 8, 1).is_empty());
        assert_eq!(moment(i64::MAX), "");
    }
}
