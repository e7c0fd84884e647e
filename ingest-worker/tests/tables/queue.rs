//! Rows of a queue: one worker each, given back by a session that is gone, given up after some attempts.

use kronos_ingest::queue::{Found, claim, end, heartbeat, release};
use kronos_queue::Queue;
use kronos_tests::until;
use tokio_postgres::Client;

use crate::database::Tables;

const QUEUE: Queue = Queue { table: "errands", key: "errand_id", attempts: 2 };
const GIVEN_UP: &str = "state = 'failed', message = 'given up'";

/// The tables, with a queue of `count` errands.
fn queue(test: &str, count: i32) -> Tables {
    let tables = Tables::new(test);
    tables.rows(&format!(
        "create table errands (errand_id bigint generated always as identity primary key, what text not null,
           state text not null default 'queued', attempts integer not null default 0, worker regrole, worker_pid integer,
           worker_started timestamptz, started_at timestamptz, updated_at timestamptz, ended_at timestamptz, message text);
         insert into errands (what) select 'errand ' || i from generate_series(1, {count}) i"
    ));
    tables
}

async fn session(tables: &Tables) -> Client {
    tables.database().connect().await.unwrap()
}

/// What a session takes: the text of the errand.
async fn taken(client: &mut Client) -> Option<(i64, String)> {
    match claim(client, &QUEUE, "what", GIVEN_UP).await.unwrap()? {
        Found::Taken { key, row } => Some((key, row.get(0))),
        Found::GivenUp { key } => Some((key, "given up".to_owned())),
    }
}

/// Runs `work`, which has connections of its own.
fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[test]
fn each_row_is_one_workers_and_the_oldest_goes_first() {
    let tables = queue("queue_order", 3);
    run(async {
        let (mut a, mut b) = (session(&tables).await, session(&tables).await);
        assert_eq!(taken(&mut a).await, Some((1, "errand 1".to_owned())));
        assert_eq!(taken(&mut b).await, Some((2, "errand 2".to_owned())));
        assert!(heartbeat(&a, &QUEUE, 1).await.unwrap());
        assert!(!heartbeat(&b, &QUEUE, 1).await.unwrap(), "it is another's");
        assert!(!end(&mut b, &QUEUE, 1, "state = 'done'", &[]).await.unwrap());
        assert!(end(&mut a, &QUEUE, 1, "state = 'done', message = $2", &[&"well"]).await.unwrap());
        assert!(!end(&mut a, &QUEUE, 1, "state = 'failed'", &[]).await.unwrap(), "once");
        assert!(release(&mut b, &QUEUE, 2).await.unwrap());
        assert_eq!(taken(&mut a).await, Some((2, "errand 2".to_owned())));
    });
    let rows = "select errand_id, state, attempts, message, ended_at is null from errands order by 1";
    assert_eq!(tables.rows(rows), ["1 done 1 well f", "2 running 1 - t", "3 queued 0 - t"]);
}

#[test]
fn two_workers_that_come_at_once_take_different_rows() {
    let tables = queue("queue_at_once", 40);
    run(async {
        let (mut a, mut b) = (session(&tables).await, session(&tables).await);
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let (x, y) = tokio::join!(taken(&mut a), taken(&mut b));
            of_a.extend(x);
            of_b.extend(y);
        }
        of_a.extend(of_b);
        of_a.sort();
        let keys: Vec<i64> = of_a.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, (1..=40).collect::<Vec<_>>());
    });
}

#[test]
fn a_session_that_is_gone_gives_its_row_back_and_some_such_ends_give_it_up() {
    let tables = queue("queue_gone", 1);
    for attempt in 1..=3 {
        run(async {
            let mut client = session(&tables).await;
            let expected = if attempt < 3 { "errand 1" } else { "given up" };
            assert_eq!(taken(&mut client).await, Some((1, expected.to_owned())), "{attempt}");
        });
        // The session ends with its runtime; the server notices soon.
        let alive = "select count(*) from pg_stat_activity a join errands e on e.worker_pid = a.pid
                     where a.backend_start = e.worker_started";
        until("the session is gone", || tables.rows(alive) == ["0"]);
    }
    assert_eq!(tables.rows("select state, attempts, message from errands"), ["failed 2 given up"]);
}
