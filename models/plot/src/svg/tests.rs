use super::super::picture::{Bounds, Forecast, Panel, Range, Slot, Step};
use super::*;

const HOUR: i64 = 3_600_000_000;

fn slots(actual: &[Option<f64>]) -> Vec<Slot> {
    let slot =
        |(hour, &actual): (usize, &Option<f64>)| Slot { wall: hour as i64 * HOUR, actual, range: None };
    actual.iter().enumerate().map(slot).collect()
}

fn forecast(name: &str, known: usize, steps: &[(usize, f64, Bounds)]) -> Forecast {
    let step = |&(slot, point, bounds): &(usize, f64, Bounds)| Step {
        slot,
        point: Some(point),
        bands: vec![Some(bounds)],
        calibrated: None,
    };
    Forecast {
        name: name.into(),
        known,
        steps: steps.iter().map(step).collect(),
        bands: vec!["80 %".into()],
        calibrated: None,
    }
}

/// Four bars of 10, 20, a gap and 15, then two steps: the second of these has come.
fn panel() -> Panel {
    Panel {
        value: "close".into(),
        slots: slots(&[Some(10.0), Some(20.0), None, Some(15.0), None, Some(18.0)]),
        known: 4,
        forecasts: vec![forecast("m", 4, &[(4, 16.0, (12.0, 20.0)), (5, 17.0, (11.0, 20.0))])],
        ..Panel::default()
    }
}

fn picture(panels: Vec<Panel>) -> Picture {
    Picture { title: "A".into(), zone: "UTC".into(), panels, ..Picture::default() }
}

fn drawn(panels: Vec<Panel>, width: f64, height: f64) -> String {
    svg(&picture(panels), Theme::Auto, width, height)
}

/// 300 pixels high, ticks 10, 12, ... 20 on an axis from 9.6 to 20.4. The plot goes from x = 16 + 2 * 6.6 = 29.2 to 382
/// and from y = 24 + 18 + 12 = 54 to 256; a slot is 58.8 wide.
#[test]
fn points_lie_where_they_are_computed_by_hand() {
    let drawn = drawn(vec![panel()], 400.0, 300.0);
    let x = |slot: f64| 29.2 + (slot + 0.5) * 352.8 / 6.0;
    let y = |value: f64| 256.0 - (value - 9.6) / 10.8 * 202.0;
    let at = |slot: f64, value: f64| format!("{},{}", number(x(slot)), number(y(value)));
    for mark in [
        format!("<path class=\"history\" d=\"M{}L{}\"/>", at(0.0, 10.0), at(1.0, 20.0)),
        format!(
            "<circle class=\"dot history\" cx=\"{}\" cy=\"{}\" r=\"3\"/>",
            number(x(3.0)),
            number(y(15.0))
        ),
        format!("<path class=\"forecast f0\" d=\"M{}L{}L{}\"/>", at(3.0, 15.0), at(4.0, 16.0), at(5.0, 17.0)),
        format!(
            "<path class=\"band f0\" d=\"M{}L{}L{}L{}L{}L{}Z\"/>",
            at(3.0, 15.0),
            at(4.0, 20.0),
            at(5.0, 20.0),
            at(5.0, 11.0),
            at(4.0, 12.0),
            at(3.0, 15.0)
        ),
        format!(
            "<circle class=\"dot outcome\" cx=\"{}\" cy=\"{}\" r=\"2.5\"/>",
            number(x(5.0)),
            number(y(18.0))
        ),
    ] {
        assert!(drawn.contains(&mark), "{mark} is not in\n{drawn}");
    }
    assert_eq!((number(x(0.0)), number(y(9.6)), number(y(20.4))), ("58.6".into(), "256".into(), "54".into()));
    assert!(drawn.contains(">12</text>") && !drawn.contains(">9</text>"), "{drawn}");
}

/// Wicks from high to low, bodies from open to close, hollow ones where the close is not below.
#[test]
fn bars_with_all_their_prices_are_candlesticks() {
    let mut panel = panel();
    panel.candles = true;
    panel.forecasts.clear();
    panel.known = 6;
    panel.slots[0].range = Some(Range { open: 12.0, high: 13.0, low: 10.0 });
    panel.slots[1].range = Some(Range { open: 18.0, high: 20.0, low: 17.0 });
    let drawn = drawn(vec![panel.clone()], 400.0, 300.0);
    let y = |value: f64| number(256.0 - (value - 9.6) / 10.8 * 202.0);
    let (first, second) = (29.2 + 29.4, 29.2 + 88.2);
    let wicks = format!(
        "<path class=\"wick history\" d=\"M{},{}V{}M{},{}V{}",
        number(first),
        y(13.0),
        y(10.0),
        number(second),
        y(20.0),
        y(17.0)
    );
    assert!(drawn.contains(&wicks), "{wicks} is not in\n{drawn}");
    let down = format!("<path class=\"body down history\" d=\"M{},{}h14v", number(first - 7.0), y(12.0));
    let up = format!("<path class=\"body up history\" d=\"M{},{}h14v", number(second - 7.0), y(20.0));
    assert!(drawn.contains(&down) && drawn.contains(&up), "{drawn}");
    assert!(
        !drawn.contains("<path class=\"history\"") && drawn.contains(">bar, hollow where it rose<"),
        "{drawn}"
    );
    // The bars that came are candlesticks too, and narrow ones are a line.
    panel.known = 4;
    assert!(svg(&picture(vec![panel.clone()]), Theme::Auto, 400.0, 300.0).contains("class=\"wick outcome\""));
    panel.slots = vec![panel.slots[0].clone(); 500];
    panel.known = 500;
    let narrow = super::svg(&picture(vec![panel]), Theme::Auto, 400.0, 300.0);
    assert!(narrow.contains("<path class=\"history\"") && !narrow.contains("class=\"wick"), "{narrow}");
}

#[test]
fn forecasts_of_one_series_lie_over_each_other() {
    let mut panel = panel();
    panel.forecasts.push(forecast("older", 2, &[(2, 16.0, (12.0, 20.0)), (3, 17.0, (11.0, 20.0))]));
    let drawn = drawn(vec![panel], 400.0, 300.0);
    for part in [
        "\"forecast f0\"",
        "\"forecast f1\"",
        "\"band f1\"",
        ">m</text>",
        ">m, 80 %</text>",
        ">older, 80 %</text>",
    ] {
        assert!(drawn.contains(part), "{part} is not in\n{drawn}");
    }
    // The older one starts from the bar before its own cutoff: slot 1 at 20, the second of six.
    assert!(drawn.contains("<path class=\"forecast f1\" d=\"M117.4,"), "{drawn}");
}

#[test]
fn series_stand_beside_each_other_with_a_scale_each_and_one_legend() {
    let mut other = panel();
    other.title = "B".into();
    for slot in &mut other.slots {
        slot.actual = slot.actual.map(|value| 1000.0 * value);
    }
    other.forecasts.clear();
    let drawn = drawn(vec![panel(), other], 800.0, 300.0);
    assert_eq!(drawn.matches("class=\"panel\"").count(), 1);
    assert!(drawn.contains(">20,000</text>") && drawn.contains(">20</text>"), "{drawn}");
    assert_eq!(drawn.matches(">close</text>").count(), 1, "{drawn}");
    // The second starts half way: (800 - 16) / 2 to the right of the first.
    assert!(drawn.contains("<text x=\"408\" y="), "{drawn}");
    let stacked = super::svg(&picture(vec![panel(), panel()]), Theme::Auto, 500.0, 400.0);
    assert!(!stacked.contains("<text x=\"258\" y="), "there is no room beside the other\n{stacked}");
}

#[test]
fn names_are_escaped_and_wrapped() {
    let mut picture = picture(vec![panel()]);
    picture.title = "\"<script>alert(1)</script>&'\u{0}".into();
    picture.panels[0].value = "long ".repeat(30);
    picture.panels[0].forecasts[0].bands = vec!["]]><b>".into()];
    picture.note = "<i>".into();
    let drawn = svg(&picture, Theme::Auto, 400.0, 300.0);
    assert!(drawn.contains("&quot;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#39;\u{fffd}"), "{drawn}");
    assert!(!drawn.contains("<script") && !drawn.contains("<b>") && !drawn.contains("<i>"), "{drawn}");
    // (400 - 18 - 16 - 26) / 6.6 = 51 characters a line: ten words, three times.
    let line = format!("class=\"legend\">{}</text>", "long ".repeat(10).trim_end());
    assert_eq!(drawn.matches(&line).count(), 3, "{drawn}");
    picture.title = "title ".repeat(30);
    let drawn = svg(&picture, Theme::Auto, 400.0, 300.0);
    assert_eq!(drawn.matches("class=\"title\"").count(), 4, "{drawn}");
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let drawn = drawn(vec![Panel::default()], 400.0, 300.0);
    assert!(drawn.contains(">no data</text>") && drawn.ends_with("</svg>"), "{drawn}");
    assert!(!drawn.contains("NaN"), "{drawn}");
}

#[test]
fn numbers_of_any_size_and_pictures_of_any_size_are_whole() {
    for unit in [1e-300, 1e-12, 1.0, 1e12, 1e299] {
        let scaled = |value: f64| value * unit;
        let mut panel = panel();
        for slot in &mut panel.slots {
            slot.actual = slot.actual.map(scaled);
        }
        for step in &mut panel.forecasts[0].steps {
            step.point = step.point.map(scaled);
            step.bands[0] = step.bands[0].map(|(lower, upper)| (scaled(lower), scaled(upper)));
        }
        for (width, height) in [(960.0, 420.0), (120.0, 90.0)] {
            let drawn = drawn(vec![panel.clone()], width, height);
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{unit} {drawn}");
            assert_eq!(drawn, self::drawn(vec![panel.clone()], width, height));
        }
    }
    let one = Panel { slots: slots(&[Some(5.0)]), known: 1, ..Panel::default() };
    assert!(drawn(vec![one], 400.0, 300.0).contains("<circle class=\"dot history\""));
}
