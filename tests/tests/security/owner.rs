//! The set-up by the owner of a database who is no superuser: it works as far as it can, and says what is missing.

use kronos_tests::Database;

/// Runs the files as the role; what psql said.
#[track_caller]
fn set_up(db: &Database, role: &str) -> String {
    let mut psql = db.program("psql");
    psql.env("PGUSER", role).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "sql/install.sql"]);
    let output = psql.output().expect("psql can be run");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    told
}

fn owned(test: &str) -> (Database, String) {
    let db = Database::empty(test);
    let owner = db.role("owner");
    db.run(&format!("alter database {} owner to {owner}", db.name()));
    (db, owner)
}

const MADE: &str = "select string_agg(name, ' ' order by name) from unnest('{kronos.forecasts,kronos.calibrations,kronos.training_jobs,
                    ledger.runs,market.bars,trading.positions,training.jobs}'::text[]) name where to_regclass(name) is not null";

#[test]
fn without_the_extension_all_of_it_is_the_owners() {
    let (db, owner) = owned("owner_alone");
    for _ in 0..2 {
        set_up(&db, &owner);
        assert_eq!(
            db.value(MADE),
            "kronos.calibrations kronos.forecasts kronos.training_jobs ledger.runs market.bars trading.positions training.jobs"
        );
    }
    db.run(&format!("alter database {} owner to current_user; drop owned by {owner} cascade", db.name()));
}

#[test]
fn beside_an_extension_of_a_superuser_the_views_wait_for_a_grant() {
    let (db, owner) = owned("owner_beside");
    db.run("create extension kronos");
    let told = set_up(&db, &owner);
    assert_eq!(db.value(MADE), "ledger.runs market.bars trading.positions training.jobs");
    for missing in ["views of the ledger are not made", "views of training jobs are not made"] {
        assert!(told.contains(missing), "{told}");
    }
    let hint = format!("GRANT CREATE ON SCHEMA kronos TO {owner}");
    assert!(told.contains(&hint), "{told}");
    db.run(&hint);
    let told = set_up(&db, &owner);
    assert!(!told.contains("are not made"), "{told}");
    assert_eq!(
        db.value(MADE),
        "kronos.calibrations kronos.forecasts kronos.training_jobs ledger.runs market.bars trading.positions training.jobs"
    );
    db.run(&format!("alter database {} owner to current_user; drop owned by {owner} cascade", db.name()));
}
