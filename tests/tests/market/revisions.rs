//! Revisions of estimates: by hand, and against an independent computation.

use kronos_tests::Database;

/// Stores the estimates of a fiscal year as they came.
fn estimates(db: &Database, symbol: &str, year: &str, versions: &[(&str, f64)]) {
    for (known_at, eps) in versions {
        db.run(&format!(
            "insert into market.fmp_analyst_estimates (source, kind, key, symbol, known_at, received_at, payload, digest)
             select 'fmp', 'fmp_analyst_estimates', '{symbol}/annual/{year}', '{symbol}', '{known_at}', '{known_at}', p, sha256((p::text || '{known_at}')::bytea)
             from (select jsonb_build_object('date', '{year}', 'epsAvg', {eps}::numeric) as p) x"
        ));
    }
}

fn close(db: &Database, symbol: &str, day: &str, price: f64) {
    db.run(&format!(
        "insert into market.bars (symbol, source, bar_width, time, open, high, low, close, known_at)
         values ('{symbol}', 'file', '1 day', '{day} 00:00+00', 1, 1, 1, {price}, timestamptz '{day} 00:00+00' + interval '1 day')"
    ));
}

/// Fiscal year, the two estimates, change to twelve digits and score of a symbol.
fn revision(db: &Database, symbol: &str, as_of: &str) -> String {
    db.value(&format!(
        "select concat_ws(' ', period_end, eps, coalesce(eps_before::text, '-'), coalesce(round(rev_eps_chg::numeric, 12)::text, '-'), round(z_rev_eps::numeric, 9))
         from market.revisions('{as_of}') where symbol = '{symbol}'"
    ))
}

#[test]
fn a_revision_is_of_one_fiscal_year_over_thirty_days() {
    let db = Database::installed("revisions_hand");
    estimates(
        &db,
        "ACME",
        "2026-12-31",
        &[("2026-09-01 06:00+00", 4.8), ("2026-11-05 06:00+00", 5.1), ("2026-11-12 06:00+00", 5.4)],
    );
    // A year that begins shows no leap to the estimate of the next.
    estimates(&db, "ACME", "2027-12-31", &[("2026-09-01 06:00+00", 9.0), ("2026-12-20 06:00+00", 9.9)]);
    for day in ["2026-10-01", "2026-11-09", "2026-11-28", "2027-01-04"] {
        close(&db, "ACME", day, 100.0);
    }
    assert_eq!(revision(&db, "ACME", "2026-11-10 12:00+00"), "2026-12-31 5.1 4.8 0.062500000000 0.000000000");
    assert_eq!(
        revision(&db, "ACME", "2026-11-05 05:59+00"),
        "2026-12-31 4.8 4.8 - 0.000000000",
        "no price of ten days"
    );
    // (5.4 - 4.8) / 4.8 on the 29th of November; the version of the 5th is not thirty days old yet.
    assert_eq!(revision(&db, "ACME", "2026-11-30 00:00+00"), "2026-12-31 5.4 4.8 0.125000000000 0.000000000");
    assert_eq!(revision(&db, "ACME", "2027-01-05 12:00+00"), "2027-12-31 9.9 9 0.100000000000 0.000000000");
    assert_eq!(revision(&db, "ACME", "2026-09-15 00:00+00"), "2026-12-31 4.8 - - 0.000000000");
    // A cent of earnings is measured by 1 % of the price: 0.05 / 0.20.
    estimates(&db, "CENT", "2026-12-31", &[("2026-09-01 06:00+00", -0.01), ("2026-11-05 06:00+00", 0.04)]);
    close(&db, "CENT", "2026-11-09", 20.0);
    assert_eq!(
        revision(&db, "CENT", "2026-11-10 12:00+00"),
        "2026-12-31 0.04 -0.01 0.250000000000 0.674490759"
    );
    // Where nothing trades, the profile has a price for ten days.
    estimates(&db, "HELD", "2026-12-31", &[("2026-09-01 06:00+00", 2.0), ("2026-11-05 06:00+00", 1.0)]);
    db.run(
        "insert into market.dim_company_profile (source, kind, key, symbol, known_at, received_at, payload, digest)
         select 'fmp', 'dim_company_profile', 'HELD', 'HELD', '2026-11-08', '2026-11-08', p, sha256(p::text::bytea) from (select jsonb '{\"price\": 50}' as p) x",
    );
    assert!(revision(&db, "HELD", "2026-11-10 12:00+00").starts_with("2026-12-31 1 2 -0.500000000000 "));
    assert!(revision(&db, "HELD", "2026-11-20 12:00+00").starts_with("2026-12-31 1 2 - 0.000000000"));
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

#[test]
fn revisions_are_scored_among_the_sector_and_few_names_among_all() {
    let db = Database::installed("revisions_scores");
    // Twelve of one sector, eight who are all alike, three of another, two of none.
    db.run(
        "create table names as select 'S' || i as symbol, i, case when i <= 12 then 'steel' when i <= 20 then 'banks' when i <= 23 then 'few' end as sector,
                case when i between 13 and 20 then 0.1 else 0.2 * sin(i * 1.7) + case i when 5 then 3 else 0 end end as change from generate_series(1, 25) i;
         insert into market.dim_company_profile (source, kind, key, symbol, known_at, received_at, payload, digest)
         select 'fmp', 'dim_company_profile', symbol, symbol, '2026-11-08', '2026-11-08', p, sha256((symbol || p::text)::bytea)
         from names, lateral (select jsonb_build_object('price', 50, 'sector', sector) as p) x;
         insert into market.fmp_analyst_estimates (source, kind, key, symbol, known_at, received_at, payload, digest)
         select 'fmp', 'fmp_analyst_estimates', symbol || '/annual/2026-12-31', symbol, k, k, p, sha256((symbol || k)::bytea)
         from names, (values (timestamptz '2026-09-01 00:00+00', 0), ('2026-11-01 00:00+00', 1)) v (k, n),
              lateral (select jsonb_build_object('date', '2026-12-31', 'epsAvg', 2 * (1 + n * change)) as p) x",
    );
    let rows = db.rows("select r.symbol, coalesce(r.sector, ''), r.rev_eps_chg, r.z_rev_eps from market.revisions('2026-11-10 00:00+00') r");
    let names: Vec<(String, String, f64, f64)> = rows
        .into_iter()
        .map(|row| {
            let text = |i: usize| row[i].clone().unwrap();
            (text(0), text(1), text(2).parse().unwrap(), text(3).parse().unwrap())
        })
        .collect();
    assert_eq!(names.len(), 25);
    let mut clipped = 0;
    for (symbol, sector, change, z) in &names {
        let few = matches!(sector.as_str(), "few" | "");
        let peers: Vec<f64> = names.iter().filter(|n| few || n.1 == *sector).map(|n| n.2).collect();
        let middle = median(&peers);
        let spread = 1.4826 * median(&peers.iter().map(|x| (x - middle).abs()).collect::<Vec<_>>());
        let expected = if spread > 0.0 { ((change - middle) / spread).clamp(-3.0, 3.0) } else { 0.0 };
        assert!((z - expected).abs() < 1e-9, "{symbol}: {z}, not {expected}");
        clipped += usize::from(z.abs() == 3.0);
    }
    assert!(clipped > 0, "the bounds are tried");
    assert_eq!(db.value("select count(*) from (table market.fmp_revisions_cs except select * from market.revisions(now())) x"), "0");
}
