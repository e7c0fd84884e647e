//! The charts that the documentation shows are what `kronos.chart` draws of the same simulated bars. `tools/pictures` draws them again.

use kronos_tests::{Database, project_root};

/// Hourly bars of a simulated market, and what a model and a baseline said of them thirty hours before their end. Nothing here depends on the
/// day: the pictures are the same whenever they are drawn.
const BARS: &str = "
    create table bars as select * from kronos.simulate_bars('{ALPHA,BETA,GAMMA,DELTA}', 500, seed => 16);
    alter table bars add primary key (symbol, time);
    create table said as
      select series, 'close' as target, ts, close as forecast, lower, upper, quantiles, cutoff, model_version, 0.8 as level, '{0.1,0.25,0.75,0.9}'::float8[] as quantile_levels
      from kronos.kronos_predict('bars', 48, as_of => '2024-01-20 14:00+00', level => 0.8, quantile_levels => '{0.1,0.25,0.75,0.9}', model => 'kronos-nano', samples => 200)
      union all
      select series, target, ts, forecast, lower, upper, null, cutoff, model_version, 0.8, null
      from kronos.forecast('hist_vol', 'bars', '{close}', 48, as_of => '2024-01-20 14:00+00', level => 0.8);";

/// The name of each picture, and the call that draws it.
const PICTURES: &[(&str, &str)] = &[
    (
        "chart.svg",
        "kronos.chart('bars', 'ALPHA', (select array_agg(s) from said s), history => 96, model => 'kronos-nano',
                      options => '{\"title\": \"ALPHA: 48 hours ahead, and what came of the first 30\"}')",
    ),
    (
        "chart-models.svg",
        "kronos.chart('bars', 'ALPHA', (select array_agg(s) from said s), history => 96,
                      options => '{\"models\": [\"kronos-nano\", \"hist_vol\"], \"title\": \"ALPHA: two models\"}')",
    ),
    (
        "chart-series.svg",
        "kronos.chart('bars', null, (select array_agg(s) from said s), history => 72, model => 'kronos-nano',
                      options => '{\"series\": [\"ALPHA\", \"BETA\", \"GAMMA\", \"DELTA\"], \"title\": \"Four series\", \"style\": \"line\"}')",
    ),
];

/// A text with its numbers taken out, and the numbers. Kernels of other machines may round the last digit of a coordinate otherwise.
fn parts(svg: &str) -> (String, Vec<f64>) {
    let mut shape = String::new();
    let mut numbers = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let end =
            rest[at..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |end| at + end);
        shape.push_str(&rest[..at]);
        shape.push('#');
        numbers.push(rest[at..end].trim_end_matches('.').parse().unwrap_or(f64::NAN));
        rest = &rest[end..];
    }
    shape.push_str(rest);
    (shape, numbers)
}

#[test]
fn the_pictures_of_the_documentation_are_what_is_drawn() {
    let db = Database::new("chart_pictures");
    db.run(BARS);
    for (name, call) in PICTURES {
        let drawn = db.value(&format!("set timezone = 'UTC'; select {call}"));
        if let Some(folder) = std::env::var_os("KRONOS_PICTURES") {
            std::fs::write(std::path::Path::new(&folder).join(name), format!("{drawn}\n")).unwrap();
        }
        let path = project_root().join("docs/pictures").join(name);
        let kept = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; run tools/pictures", path.display()));
        let (kept, drawn) = (parts(kept.trim_end()), parts(&drawn));
        assert_eq!(kept.0, drawn.0, "{name} is drawn otherwise: run tools/pictures");
        let off = kept.1.iter().zip(&drawn.1).filter(|(kept, drawn)| (*kept - *drawn).abs() > 0.05).count();
        assert_eq!((off, kept.1.len()), (0, drawn.1.len()), "{name} is drawn otherwise: run tools/pictures");
        assert!(drawn.1.len() > 500, "{name} shows {} numbers", drawn.1.len());
    }
}
