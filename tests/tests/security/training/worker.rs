//! The worker: who it may be, what it survives, and whose files and jobs are whose.

use super::{OPTIONS, Tenants, cancelled};
use kronos_tests::{Database, TrainedFiles, TrainingWorker, until};

/// A worker that is nobody special is the only one that works.
#[test]
fn a_worker_that_may_do_everything_is_refused() {
    let tenants = Tenants::new("training_login");
    let db = &tenants.db;
    tenants.ask("den.bars", "{close}").unwrap();
    let (bypassing, member, stranger) = (db.role("bypassing"), db.role("member"), db.role("stranger"));
    db.run(&format!("alter role {bypassing} bypassrls; grant {bypassing} to {member}"));
    let superuser = db.value("select current_user::text");
    for (role, expected) in [
        (&superuser, "a superuser"),
        (&bypassing, "a role that row security does not bind"),
        (&member, "which can become"),
        (&stranger, "may not run training jobs"),
    ] {
        let output = TrainingWorker::logged_in_as(db, role).output();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{role}: {said}");
        assert!(said.contains("HINT:") && said.contains("grant_training_worker"), "{role}: {said}");
    }
    for (role, code) in [(&superuser, "0LP01"), (&bypassing, "0LP01"), (&member, "0LP01")] {
        db.error(&format!("select kronos.grant_training_worker('{role}')")).is(code, "may do everything");
    }
    assert_eq!(tenants.states(), "queued");
    tenants.harmless();
    assert_eq!(tenants.states(), "done");
}

/// All that a worker may do: nothing of it tells who asked, for what, or when.
#[test]
fn a_worker_may_do_what_a_worker_does() {
    let tenants = Tenants::new("training_grants");
    let grants = format!(
        "set search_path = pg_catalog;
         select string_agg(g.line, ' | ' order by g.line) from (
           select c.oid::regclass || ' ' || string_agg(lower(a.privilege_type), ' ' order by a.privilege_type) as line
           from pg_class c cross join lateral aclexplode(c.relacl) a
           where a.grantee = '{role}'::regrole group by c.oid
           union all
           select t.attrelid::regclass || '(' || string_agg(t.attname, ' ' order by t.attnum) || ') ' || lower(a.privilege_type)
           from pg_attribute t cross join lateral aclexplode(t.attacl) a
           where a.grantee = '{role}'::regrole group by t.attrelid, a.privilege_type
           union all
           select p.oid::regproc || ' ' || lower(a.privilege_type) from pg_proc p cross join lateral aclexplode(p.proacl) a
           where a.grantee = '{role}'::regrole
           union all
           select n.nspname || ' ' || lower(a.privilege_type) from pg_namespace n cross join lateral aclexplode(n.nspacl) a
           where a.grantee = '{role}'::regrole) g",
        role = tenants.worker.role()
    );
    let expected = [
        "_kronos usage",
        "kronos usage",
        "_kronos.model_directories execute",
        "kronos.models select",
        "kronos.register_model execute",
        "training usage",
        "training.best_fits insert select",
        "training.cancellations select",
        "training.jobs select",
        "training.jobs(state attempts worker worker_pid worker_started started_at updated_at ended_at step steps remaining train_loss \
         validation_loss model_version sqlstate message) update",
        "training.messages insert select",
        "training.series delete select",
    ];
    let found = tenants.db.value(&grants);
    let mut found: Vec<&str> = found.split(" | ").collect();
    found.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// A job that ends its worker without a word is tried three times; an end that was asked for is no attempt.
#[test]
fn a_job_that_kills_its_workers_is_given_up() {
    let tenants = Tenants::new("training_poison");
    let (db, files) = (&tenants.db, TrainedFiles::of(&tenants.db));
    let endless = OPTIONS.replace("\"steps\": 20", "\"patience\": 1000000, \"steps\": 100000000");
    tenants.as_attacker(&format!(
        "select kronos.train_model('m', 'nbeats', 'den.bars', '{{close}}', '{endless}')"
    ));
    let running =
        || db.value("select coalesce(max(step), 0) > 0 and max(state) = 'running' from training.jobs") == "t";
    let gone = || {
        until("the session of the worker ends", || {
            let alive =
                format!("select count(*) from pg_stat_activity where usename = '{}'", tenants.worker.role());
            db.value(&alive) == "0"
        });
    };
    let started = || {
        db.run("update training.jobs set step = null");
        let child = kronos_tests::Running(tenants.worker.command().spawn().unwrap());
        until("the job runs", running);
        child
    };
    // Asked to end, a worker gives the job back at once.
    let mut first = started();
    let pid = first.0.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    first.0.wait().unwrap();
    assert_eq!(db.value("select state || ' ' || attempts from training.jobs"), "queued 0");
    for attempt in 1..=3 {
        let worker = started();
        assert_eq!(db.value("select attempts from training.jobs"), attempt.to_string());
        // Somebody has it: another worker finds nothing to do, though its role is told less of this session.
        TrainingWorker::of(db).work();
        assert_eq!(
            db.value("select state || ' ' || attempts from training.jobs"),
            format!("running {attempt}")
        );
        drop(worker);
        gone();
    }
    assert!(files.folders()[0].exists(), "the checkpoint is there until the job is given up");
    TrainingWorker::of(db).work();
    let told = db.value("select concat_ws(' ', state, attempts, message) from training.jobs");
    assert!(
        told.starts_with("failed 3 given up after 3 attempts") && told.contains("; it last said: "),
        "{told}"
    );
    assert_eq!(
        db.value(
            "select count(*) from training.messages where message like '%ended without a word; attempt%'"
        ),
        "2"
    );
    assert_eq!(db.value("select count(*) from training.series"), "0");
    assert!(!files.folders()[0].exists());
}

/// A name can be given to another role; a job cannot.
#[test]
fn a_job_stays_with_its_role_when_names_change() {
    let tenants = Tenants::new("training_names");
    let (db, attacker, victim) = (&tenants.db, &tenants.attacker, &tenants.victim);
    tenants
        .as_attacker(&format!("grant usage on schema den to {victim}; grant select on den.bars to {victim}"));
    let ask = format!("select kronos.train_model('v', 'nbeats', 'den.bars', '{{close}}', '{OPTIONS}')");
    db.connect_as(victim).batch_execute(&ask).unwrap();
    let swap = |a: &str, b: &str| {
        db.run(&format!(
            "alter role {a} rename to {a}_; alter role {b} rename to {a}; alter role {a}_ rename to {b}"
        ));
    };
    swap(attacker, victim);
    // Who is called as the victim was is the attacker.
    let seen = |role: &str| -> i64 {
        db.connect_as(role).query_one("select count(*) from kronos.training_jobs", &[]).unwrap().get(0)
    };
    assert_eq!((seen(victim), seen(attacker)), (0, 1));
    assert!(!cancelled(&mut db.connect_as(victim), 1));
    assert!(cancelled(&mut db.connect_as(attacker), 1));
    swap(attacker, victim);
    // Neither is a role that sees all jobs the owner of them.
    db.run(&format!("alter role {attacker} bypassrls"));
    assert_eq!(seen(attacker), 1);
    assert!(!cancelled(&mut db.connect_as(attacker), 1));
    db.run(&format!("alter role {attacker} nobypassrls"));
    tenants.harmless();
    assert_eq!(tenants.states(), "cancelled");
}

/// A role that may no longer register models gets none from a job that it asked for before.
#[test]
fn a_model_is_registered_for_those_who_still_may() {
    let tenants = Tenants::new("training_revoked");
    tenants.ask("den.bars", "{close}").unwrap();
    let function = "kronos.register_model(text, text, text, text, date, text, jsonb)";
    tenants.db.run(&format!("revoke execute on function {function} from {}", tenants.attacker));
    tenants.harmless();
    let told = tenants.db.value("select state || ': ' || message from training.jobs");
    assert!(told.starts_with("failed: ") && told.contains("may not register models any more"), "{told}");
    assert_eq!(tenants.db.value("select count(*) from kronos.models where name = 'm'"), "0");
}

/// Databases that share a model directory number their jobs alike: a failed job of one must not take the files of another.
#[test]
fn jobs_of_two_databases_have_folders_of_their_own() {
    let (one, other) = (Tenants::new("training_folder_a"), Tenants::new("training_folder_b"));
    let (kept, lost) = (TrainedFiles::of(&one.db), TrainedFiles::of(&other.db));
    one.ask("den.bars", "{close}").unwrap();
    one.worker.work();
    assert_eq!(one.states(), "done");
    other.as_attacker("create table den.few as select * from den.bars where ts < '2021-01-20'");
    other.ask("den.few", "{close}").unwrap();
    other.worker.work();
    assert_eq!(other.states(), "failed");
    assert!(kept.folders()[0].exists() && !lost.folders()[0].exists());
    let version = one.db.value("select model_version from training.jobs");
    let call = format!(
        "select count(*) from kronos.nbeats_predict('den.bars', '{{close}}', 3, model => '{version}')"
    );
    assert_eq!(one.db.value(&call), "6");
}

/// Tables of the first version: owners become identities, what cannot be run says so, and privileges that are too many go.
#[test]
fn tables_of_an_older_version_are_brought_up_to_date() {
    let db = Database::installed("training_upgrade");
    let (asker, granted) = (db.role("asker"), db.role("granted"));
    db.run(&format!(
        "drop schema training cascade; create schema training;
         create table training.jobs (
           job_id bigint generated always as identity primary key, name text not null, family text not null, relation regclass not null,
           targets text[] not null, options jsonb not null default '{{}}', requested_by text not null default current_user,
           requested_at timestamptz not null default clock_timestamp(), state text not null default 'queued',
           cancel_requested boolean not null default false, started_at timestamptz, updated_at timestamptz, ended_at timestamptz, step bigint,
           steps bigint, remaining interval, train_loss float8, validation_loss float8, model_version text, sqlstate text, message text);
         create view kronos.training_jobs as select j.job_id, j.name, j.family, j.relation, j.targets, j.options, j.requested_by,
           j.requested_at, j.state, j.cancel_requested, j.started_at, j.updated_at, j.ended_at, j.step, j.steps, j.remaining, j.train_loss,
           j.validation_loss, j.model_version, j.sqlstate, j.message from training.jobs j;
         alter table training.jobs enable row level security;
         create policy own_jobs on training.jobs using (requested_by = current_user) with check (requested_by = current_user);
         grant usage on schema training, kronos to {granted};
         grant insert (name, family, relation, targets, options), select, update (cancel_requested) on training.jobs to {granted};
         insert into training.jobs (name, family, relation, targets, requested_by, state)
         values ('a', 'nbeats', 'pg_class', '{{x}}', '{asker}', 'queued'), ('b', 'nbeats', 'pg_class', '{{x}}', '{asker}', 'done'),
                ('c', 'nbeats', 'pg_class', '{{x}}', 'nobody of this name', 'running')"
    ));
    for _ in 0..2 {
        let output = db.program("psql").args(["-X", "-q", "-f", "sql/install.sql"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let jobs = db.rows("select name, requested_by, state, left(message, 32), attempts::text from kronos.training_jobs order by name");
    let expected = [
        vec!["a", asker.as_str(), "failed", "queued before kronos.train_model", "0"],
        vec!["b", asker.as_str(), "done", "", "0"],
        vec!["c", "unknown (OID=0)", "failed", "queued before kronos.train_model", "0"],
    ];
    let jobs: Vec<Vec<&str>> = jobs
        .iter()
        .map(|row| row.iter().map(|value| value.as_deref().unwrap_or_default()).collect())
        .collect();
    assert_eq!(jobs, expected);
    let mut client = db.connect_as(&granted);
    let refused = client.batch_execute("select * from training.jobs for update").unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    client
        .batch_execute(
            "insert into training.jobs (name, family, relation, targets) values ('d', 'nbeats', 'pg_class', '{x}');
             insert into training.series select job_id, 's', 0, '{1}', '{1}' from training.jobs;
             insert into training.cancellations (job_id) select job_id from training.jobs",
        )
        .unwrap();
    assert_eq!(db.value("select requested_by from kronos.training_jobs where name = 'd'"), granted);
}
