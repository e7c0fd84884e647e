//! The schedulers themselves fire policies: TimescaleDB's jobs where the edition has them, else pg_cron.

use kronos_tests::{Client, Deadline, NoTls, PrivateCluster, SqlFailure, bars, rows, until};

/// A private cluster like that of `make up`, whose database a scheduler watches.
struct Clock {
    server: PrivateCluster,
    _deadline: Deadline,
}

impl Clock {
    /// `None`, with a line that says so, where there is no scheduler.
    fn start() -> Option<Self> {
        let server = PrivateCluster::start("policy-clock");
        let deadline = server.deadline();
        let mut client = server.connect();
        let available = "select 1 from pg_available_extensions where name = 'pg_cron'";
        if !rows(&mut client, available).is_empty() {
            client
                .batch_execute("set client_min_messages = warning; create extension if not exists pg_cron")
                .unwrap();
        }
        if value(&mut client, "select kronos.scheduler()") == "none" {
            kronos_skip::skipped(
                "neither pg_cron nor the community edition of TimescaleDB is installed",
                "make setup as root, where the system packages pg_cron",
            );
            return None;
        }
        client.batch_execute("call kronos.install()").unwrap();
        Some(Self { server, _deadline: deadline })
    }

    fn connect(&self, role: &str) -> Client {
        self.server.config().clone().user(role).connect(NoTls).expect("the cluster accepts connections")
    }
}

fn value(client: &mut Client, sql: &str) -> String {
    let found = rows(client, sql);
    assert!(found.len() == 1 && found[0].len() == 1, "{sql}: {found:?}");
    found[0][0].clone().unwrap_or_default()
}

#[test]
fn the_scheduler_fires_policies_and_requests() {
    let Some(clock) = Clock::start() else { return };
    let mut admin = clock.connect("postgres");
    let scheduler = value(&mut admin, "select kronos.scheduler()");
    let cron = scheduler == "pg_cron";
    admin.batch_execute(&bars("bars", &["A", "B", "C"], 60)).unwrap();
    admin
        .batch_execute(
            "create table closed as table bars;
             create role quant login; grant select on bars, closed to quant;
             do $$begin perform kronos.grant_access('quant', 'operate');
                if to_regnamespace('cron') is not null then grant usage on schema cron to quant; end if; end$$",
        )
        .unwrap();
    if cron {
        the_jobs_of_market_are_there_once(&mut admin);
    }
    let mut quant = clock.connect("quant");
    let job = value(
        &mut quant,
        "select kronos.add_forecast_policy('bars', 3, '1 minute', policy => 'minutely', args => '{\"batch_series\": 1}')",
    );
    // Its first time lies far ahead, so that only the request runs it, whatever today's date.
    let slow = value(&mut quant, "select kronos.add_forecast_policy('bars', 3, '1 year', policy => 'yearly', call => 'forecast', model => 'naive',
                                                                    args => '{\"targets\": [\"close\"]}', initial_start => '2100-06-15 12:34+00')");
    let shut =
        value(&mut quant, "select kronos.add_forecast_policy('closed', 3, '1 minute', policy => 'shut out')");
    admin.batch_execute("revoke select on closed from quant").unwrap();
    let job_of = "select scheduler || ' ' || job_id from kronos.policies where policy = 'minutely'";
    assert_eq!(value(&mut quant, job_of), format!("{scheduler} {job}"));
    // A second clock fires the same policy at the same minutes.
    if cron {
        let second = "select cron.schedule('second clock', '* * * * *', $$call kronos.run_policy(config => '{\"policy\": \"minutely\"}')$$)";
        value(&mut quant, second);
        assert_eq!(
            value(
                &mut quant,
                &format!("select schedule || ' ' || username from cron.job where jobid = {job}")
            ),
            "* * * * * quant"
        );
        assert_eq!(
            value(&mut quant, &format!("select schedule from cron.job where jobid = {slow}")),
            "34 12 15 6 *"
        );
    }
    let request = value(&mut quant, "select kronos.submit('yearly')");

    let mut watcher = clock.connect("postgres");
    let mut sees = |sql: &str, wanted: &str| value(&mut watcher, sql) == wanted;
    until("the policy fired twice", || {
        sees(
            "select count(distinct scheduled_for) >= 2 from kronos.runs where policy = 'minutely' and state = 'done'",
            "t",
        )
    });
    until("the request was served", || {
        sees(&format!("select state from ledger.requests where request_id = {request}"), "done")
    });
    assert_eq!(
        value(
            &mut admin,
            // pg_cron knows no years: in the one minute of June it fires, too.
            "select format('%s %s %s', request_id, issued_by, n_ok) from kronos.runs where policy = 'yearly' and request_id is not null"
        ),
        format!("{request} quant 3")
    );
    // Whoever was second did no harm: each row once, no run that broke off.
    assert_eq!(
        value(
            &mut admin,
            "select format('%s %s', count(*), count(distinct (series, ts, model_version))) from kronos.forecasts"
        ),
        "18 18"
    );
    assert_eq!(
        value(
            &mut admin,
            "select count(*) from kronos.runs where policy <> 'shut out' and state not in ('done', 'running')"
        ),
        "0"
    );
    assert_eq!(value(&mut admin, "select string_agg(distinct issued_by, ' ') from kronos.runs"), "quant");

    // What fails is told to the scheduler with its SQLSTATE, and seen in the view.
    let failed = "select last_sqlstate from kronos.stat_policies where policy = 'shut out'";
    until("the policy failed", || value(&mut admin, failed) == "42501");
    let told = if cron {
        format!(
            "select count(*) > 0 from cron.job_run_details where jobid = {shut} and status = 'failed' and return_message like '%policy \"shut out\" failed%'"
        )
    } else {
        format!(
            "select count(*) > 0 from timescaledb_information.job_errors where job_id = {shut} and sqlerrcode = '42501'"
        )
    };
    until("the scheduler knows", || value(&mut admin, &told) == "t");

    if cron {
        quant.batch_execute("select cron.unschedule('second clock')").unwrap();
        // The job of the request ends itself, after its work.
        until("only the jobs of policies are left", || {
            value(&mut quant, "select string_agg(jobname, ', ' order by jobname) from cron.job")
                == "kronos policy minutely, kronos policy shut out, kronos policy yearly"
        });
    }
    quant
        .batch_execute("select kronos.remove_forecast_policy(policy) from unnest('{minutely,yearly,shut out}'::text[]) policy")
        .unwrap();
    let left = if cron {
        format!("select count(*) from cron.job where jobid in ({job}, {slow}, {shut})")
    } else {
        format!("select count(*) from timescaledb_information.jobs where job_id in ({job}, {slow}, {shut})")
    };
    assert_eq!(value(&mut admin, &left), "0");
    if cron {
        the_jobs_of_market_have_run(&mut admin);
        let error =
            quant.simple_query("select kronos.add_forecast_policy('bars', 3, '7 minutes')").unwrap_err();
        SqlFailure::new(&error).is("22023", "schedule interval 00:07:00 cannot be written for pg_cron");
        assert_eq!(value(&mut quant, "select count(*) from kronos.policies"), "0", "nothing is left of it");
    }
}

/// Bars are stored each minute; retention, validators and liquidity have their turn every hour, brought forward here.
/// What they are to find is there.
fn the_jobs_of_market_are_there_once(admin: &mut Client) {
    admin
        .batch_execute(
            "insert into market.instruments (symbol, name) values ('T', 'T');
             insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
             select 'T', 'kraken', now() - interval '2 hours' + g * interval '1 s', g, g, 3 - g, 1, now(), now() from generate_series(1, 3) g",
        )
        .unwrap();
    let jobs = "select string_agg(jobname || ' ' || schedule, ', ' order by jobname) from cron.job where jobname like 'market%'";
    let expected = "market-maintenance 7 * * * *, market-trade-bars * * * * *";
    assert_eq!(value(admin, jobs), expected);
    // Setting up again leaves one job of each name.
    admin.batch_execute("call kronos.install('{market}')").unwrap();
    assert_eq!(value(admin, jobs), expected);
    value(
        admin,
        "select cron.alter_job(jobid, schedule => '* * * * *') from cron.job where jobname = 'market-maintenance'",
    );
}

fn the_jobs_of_market_have_run(admin: &mut Client) {
    until("trades are stored as bars", || {
        value(admin, "select count(*) > 0 from market_internal.stored_trade_bars where symbol = 'T'") == "t"
    });
    until("the validators have named the trade without a price", || {
        value(
            admin,
            "select count(*) > 0 from market.validation_findings where check_name = 'non_positive_price' and symbol = 'T'",
        ) == "t"
    });
    let failed = "select count(*) from cron.job_run_details join cron.job using (jobid) where jobname like 'market%' and status = 'failed'";
    assert_eq!(value(admin, failed), "0");
}
