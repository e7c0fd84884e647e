//! Training: code of whoever asks for a model runs nowhere but in their own session, and no job harms the worker.

mod code;
mod queue;
mod worker;

use kronos_tests::{Client, Database, TrainedFiles, TrainingWorker};
use std::path::{Path, PathBuf};

/// What the victim's table holds; nothing of it may be found anywhere.
const SECRET: &str = "SECRET-4711";

/// A network small enough to be trained in a second.
const OPTIONS: &str = r#"{"series_col": "symbol", "time_col": "ts", "model": {"context_length": 10, "horizon": 3, "holdout_stride": 20,
    "stacks": [{"kind": "generic", "blocks": 1, "layers": 1, "width": 8}]},
    "train": {"steps": 20, "batch": 8, "evaluate_every": 20}, "rank": {"top": 2}, "residuals": true}"#;

/// Two tenants who may both train, and a worker that could become either.
struct Tenants {
    db: Database,
    attacker: String,
    victim: String,
    worker: TrainingWorker,
    folder: tempfile::TempDir,
}

impl Tenants {
    fn new(test: &str) -> Self {
        let db = Database::new(test);
        db.run("call kronos.install()");
        let (attacker, victim) = (db.role("attacker"), db.role("victim"));
        let worker = TrainingWorker::of(&db);
        let role = worker.role();
        db.run(&format!(
            "select kronos.grant_access('{attacker}', 'admin'); select kronos.grant_access('{victim}', 'admin');
             create schema den authorization {attacker}; create schema home authorization {victim};
             -- As where the worker had to be a member of those who ask.
             grant {attacker} to {role}; grant {victim} to {role};
             set role {victim};
             create table home.vault (secret text); insert into home.vault values ('{SECRET}');"
        ));
        let folder = tempfile::tempdir().unwrap();
        // The server runs as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let tenants = Self { db, attacker, victim, worker, folder };
        tenants.as_attacker(&tenants.attack());
        tenants.as_attacker(
            "create table den.bars as
             select s as symbol, timestamptz '2021-01-01 00:00+00' + i * interval '1 day' as ts,
                    100 * exp(0.1 * sin(i * 0.05 * ascii(s)) + 0.01 * ((i * 7919 + ascii(s) * 104729) % 101 - 50) / 50.0) as close
             from unnest('{A,B}'::text[]) s, generate_series(0, 899) i",
        );
        tenants
    }

    fn marker(&self) -> PathBuf {
        self.folder.path().join("owned")
    }

    /// A function that tries to be somebody else by all means, looks into the vault after each, and returns what it has found.
    fn attack(&self) -> String {
        let (victim, worker, marker) = (&self.victim, self.worker.role(), self.marker());
        let marker = marker.display();
        format!(
            r#"create function den.loot() returns text language plpgsql volatile as $f$
               declare
                 attempt text;
                 found text := 'nothing';
               begin
                 foreach attempt in array array[
                   'select 1', 'reset role', 'set role {victim}', 'set role none', 'reset role; set role {victim}', 'set local role {victim}',
                   'set session authorization {victim}', 'reset session authorization', 'set session authorization default',
                   'set session authorization postgres', 'set role {worker}', 'set role postgres',
                   $$select set_config('role', '{victim}', false)$$, $$select set_config('role', 'none', false)$$,
                   'alter role {attacker} superuser', 'grant {victim} to {attacker}', $$copy (select 1) to program 'touch {marker}'$$,
                   $$copy (select 1) to '{marker}'$$, 'create extension dblink',
                   'discard all', 'deallocate all', 'prepare p as select * from home.vault', 'execute p',
                   'declare c cursor with hold for select * from home.vault', 'listen kronos', 'set statement_timeout = 1000000']
                 loop
                   begin
                     execute attempt;
                   exception when others then null;
                   end;
                   begin
                     select secret into strict found from home.vault;
                   exception when others then null;
                   end;
                   begin
                     if (select rolsuper from pg_roles where rolname = current_user) or current_user <> '{attacker}' then
                       found := found || ' as ' || current_user;
                     end if;
                   exception when others then null;
                   end;
                 end loop;
                 return found;
               end $f$;
               create function den.number(float8) returns float8 language plpgsql volatile as $f$
               begin
                 if den.loot() <> 'nothing' then raise exception 'loot: %', den.loot(); end if;
                 return $1;
               end $f$;
               -- What is computed for an index or a check must not change.
               create function den.steady(float8) returns float8 language plpgsql immutable as $f$
               begin
                 return den.number($1);
               end $f$;"#,
            attacker = self.attacker
        )
    }

    #[track_caller]
    fn as_attacker(&self, sql: &str) {
        self.db
            .connect_as(&self.attacker)
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    }

    /// Asks as the attacker; an error is told, for an attack may fail early.
    fn ask(&self, relation: &str, targets: &str) -> Result<(), String> {
        let sql = format!("select kronos.train_model('m', 'nbeats', '{relation}', '{targets}', '{OPTIONS}')");
        let asked = self.db.connect_as(&self.attacker).batch_execute(&sql);
        asked.map_err(|error| {
            error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
        })
    }

    /// Runs the worker, and finds that nobody is more than before and that the secret is where it was.
    #[track_caller]
    fn harmless(&self) {
        let files = TrainedFiles::of(&self.db);
        self.worker.work();
        let (attacker, victim, worker) = (&self.attacker, &self.victim, self.worker.role());
        let powers = format!(
            "select count(*) from pg_roles r
             where r.rolname in ('{attacker}', '{victim}', '{worker}')
               and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication)"
        );
        assert_eq!(self.db.value(&powers), "0");
        assert_eq!(
            self.db.value(&format!("select pg_has_role('{attacker}', '{victim}', 'MEMBER')::text")),
            "false"
        );
        assert!(!self.marker().exists(), "a command of the system was run");
        let told = format!(
            "select string_agg(t.told, '; ') from (
               select m.message as told from training.messages m
               union all select concat_ws(' ', j.message, j.options::text) from training.jobs j
               union all select s.series from training.series s
               union all select f.series from training.best_fits f
               union all select m.settings::text from kronos.models m) t
             where t.told like '%{SECRET}%' or t.told like '%loot%'"
        );
        assert_eq!(self.db.value(&told), "");
        for folder in files.folders() {
            no_secret_below(&folder);
        }
        assert_eq!(
            self.db.value("select count(*) from training.jobs where state in ('queued', 'running')"),
            "0"
        );
        assert_eq!(self.db.value("select secret from home.vault"), SECRET);
    }

    /// States of all jobs, oldest first.
    fn states(&self) -> String {
        self.db.value("select coalesce(string_agg(state, ' ' order by job_id), '') from training.jobs")
    }
}

fn no_secret_below(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_secret_below(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", path.display());
        }
    }
}

fn cancelled(client: &mut Client, job: i64) -> bool {
    client.query_one("select kronos.cancel_training($1)", &[&job]).unwrap().get(0)
}
