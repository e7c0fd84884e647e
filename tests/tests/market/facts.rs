//! Facts of files, and what follows from them.

use kronos_tests::worker::{self, migrated, succeed};
use kronos_tests::{Database, project_root, shared_folder};
use std::path::Path;

fn load(db: &Database, file: &Path, kind: &str, arguments: &[&str]) -> String {
    let mut command = worker::of(db);
    command.arg("load").arg(file).args(["--symbols", "as-is", "--strict", "--documents", kind]);
    succeed(command.args(arguments))
}

#[test]
fn factors_of_dated_snapshots_are_those_of_pandas() {
    let Some(folder) = shared_folder("data/reference") else { return };
    let db = migrated("facts_snapshots");
    let snapshots = folder.join("sp500_fundamentals.csv.gz");
    let dated = ["--source", "snapshots", "--known-at", "as_of"];
    let said =
        load(&db, &snapshots, "fmp_ratios", &[&dated[..], &["--column", "priceToEarningsRatio=pe"]].concat());
    // So many say the same as the row before (pandas).
    assert!(said.contains("13105 rows stored, 1004 known before, 0 rejected"), "{said}");
    let again =
        load(&db, &snapshots, "fmp_ratios", &[&dated[..], &["--column", "priceToEarningsRatio=pe"]].concat());
    assert!(again.contains("0 rows stored"), "{again}");
    load(&db, &snapshots, "fmp_key_metrics", &[&dated[..], &["--column", "marketCap=market_cap"]].concat());
    load(&db, &folder.join("sp500_sectors.csv"), "dim_company_profile", &["--column", "companyName=name"]);
    // Nobody knew them then; what is compared is the arithmetic.
    db.run("update market.dim_company_profile set known_at = '2000-01-01 00:00+00'");

    let expected = std::fs::read_to_string(project_root().join("tests/factors/snapshots.txt")).unwrap();
    for line in expected.lines().skip(1) {
        let (as_of, numbers) = line.split_once(' ').unwrap();
        let found = db.value(&format!(
            "select concat_ws(' ', count(*), count(*) filter (where n_missing = 9), sum(value), sum(value * value), sum(value * place))
             from (select value, n_missing, row_number() over (order by symbol collate \"C\") as place
                   from market.fundamentals_factors('{as_of} 00:00+00'::timestamptz + interval '1 day')) f"
        ));
        let parse = |text: &str| text.split(' ').map(|number| number.parse().unwrap()).collect::<Vec<f64>>();
        for (found, expected) in parse(&found).into_iter().zip(parse(numbers)) {
            // A sum of 430 places times scores has three digits before the point more than a score.
            assert!(
                (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                "{as_of}: {found}, not {expected}"
            );
        }
    }
    let capitalisation = "select market_cap = payload_market_cap from market.trailing_ratios('2012-12-28 00:00+00') t
                          join (select symbol, (payload ->> 'marketCap')::float8 as payload_market_cap from market.fmp_key_metrics
                                where known_at = '2012-12-28 00:00+00') p using (symbol) where symbol = 'MMM'";
    assert_eq!(db.value(capitalisation), "t");
    let early = "select count(*) from market.fundamentals_factors('2012-12-27 23:59:59+00')";
    assert_eq!(db.value(early), "0", "a snapshot is known when its day is over");
}
