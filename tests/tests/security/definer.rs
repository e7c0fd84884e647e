//! Functions that run with their owner's rights: each is known, and none is a door.

use kronos_tests::{Database, project_root};
use std::collections::BTreeSet;

const SCHEMAS: &str = "('kronos', '_kronos', 'market', 'market_internal', 'ledger', 'training', 'trading')";

/// Names between back quotes in the table of docs/security.md that lists the functions.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(project_root().join("docs/security.md")).unwrap();
    let section = text.split("## Functions that run with their owner's rights").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells =
        section.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').nth(1).unwrap());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_function_with_its_owners_rights_is_documented_and_closed_to_the_public() {
    let db = Database::installed("security_definer");
    let functions = db.rows(&format!(
        "select n.nspname || '.' || p.proname, coalesce(array_to_string(p.proconfig, ' '), ''),
                has_function_privilege('public', p.oid, 'execute')
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where p.prosecdef and n.nspname in {SCHEMAS}"
    ));
    let field = |row: &[Option<String>], n: usize| row[n].clone().unwrap();
    let found: BTreeSet<String> = functions.iter().map(|row| field(row, 0)).collect();
    assert_eq!(found, documented(), "docs/security.md lists them, with why each may be one");
    for row in &functions {
        let (name, config, public) = (field(row, 0), field(row, 1), field(row, 2));
        assert!(config.contains("search_path=pg_catalog, pg_temp"), "{name}: {config}");
        assert_eq!(public, "f", "{name} can be called by everybody");
    }
}

/// What runs with the caller's rights is safe from the caller's path too: an owner or a superuser calls it as well.
#[test]
fn functions_of_the_market_do_not_depend_on_the_callers_search_path() {
    let db = Database::installed("security_search_path");
    let open = db.rows(
        "select p.oid::regprocedure from pg_proc p
         where p.pronamespace in ('market'::regnamespace, 'market_internal'::regnamespace)
           and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)
           -- Their names were looked up when they were made.
           and p.prosqlbody is null
         order by 1",
    );
    // Inlined into every query on bars, and written without a name to look up.
    let open: Vec<_> = open.into_iter().flatten().flatten().collect();
    assert_eq!(open, ["sets_price(text[])", "market_internal.as_float8(numeric)"]);
}
