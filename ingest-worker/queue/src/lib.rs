//! Queues that are tables: one protocol for all that work them off.
//!
//! A row belongs to the session that took it, which the row names by process and start. A session that is gone has given the
//! row back, however it ended. No lock is held meanwhile: a lock on a number can be taken by anybody, and a transaction that
//! lasts as long as the work keeps the server from cleaning up. Rejected: a time after which a row is free again, because
//! work that is slow is then done twice.
//!
//! This crate is the statements, without a connection: the trainer waits for its server, the ingest worker does not. A table
//! that is a queue has, beside its key and what is asked for:
//!
//! | column | meaning |
//! |---|---|
//! | `state` | `queued`, `running`, and words of its own for ends |
//! | `attempts` | how often a worker took it |
//! | `worker`, `worker_pid`, `worker_started` | role, process and start of the session that has it, or had it last |
//! | `started_at`, `updated_at`, `ended_at` | taken first, heard of last, ended |

/// When this session began, with its process an identity that none had before.
const STARTED: &str = "(select a.backend_start from pg_stat_activity a where a.pid = pg_backend_pid())";

/// A table that is a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Name with its schema. The statements are made of it, so it is one of the program's own.
    pub table: &'static str,
    /// The column that is the key, a `bigint` that rises: the oldest row goes first.
    pub key: &'static str,
    /// How often a row is tried whose worker ends without a word.
    pub attempts: i32,
}

impl Queue {
    /// Keys of the rows that are not ended, the oldest first.
    pub fn open(&self) -> String {
        let Queue { table, key, .. } = self;
        format!("select {key} from {table} where state in ('queued', 'running') order by {key}")
    }

    /// Locks row `$1`, to be looked at by the next statement, which sees what others have done to it before. No row where
    /// another is about to take it.
    pub fn lock(&self) -> String {
        let Queue { table, key, .. } = self;
        format!(
            "select from {table} where {key} = $1 and state in ('queued', 'running') for update skip locked"
        )
    }

    /// Attempts of row `$1`, and `columns` of `j`; no row where a session that lives has it.
    pub fn free(&self, columns: &str) -> String {
        let Queue { table, key, .. } = self;
        // Of sessions of other roles the start is not shown; that the process is there must do.
        format!(
            "select j.attempts{columns} from {table} j
             where j.{key} = $1 and (j.state = 'queued' or not exists (
               select from pg_stat_activity a
               where a.pid = j.worker_pid and a.usesysid = j.worker
                 and coalesce(a.backend_start, j.worker_started) = j.worker_started))"
        )
    }

    /// Makes row `$1` this session's; `returning` is what the worker wants of it.
    pub fn take(&self, returning: &str) -> String {
        let Queue { table, key, .. } = self;
        format!(
            "update {table} set state = 'running', attempts = attempts + 1,
                    worker = to_regrole(quote_ident(current_user)), worker_pid = pg_backend_pid(), worker_started = {STARTED},
                    started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
             where {key} = $1
             returning {returning}"
        )
    }

    /// Whether `j` is a row that this session took and has not lost since.
    pub fn mine(&self) -> String {
        format!("j.state = 'running' and j.worker_pid = pg_backend_pid() and j.worker_started = {STARTED}")
    }

    /// Sets columns of row `$1` while it is this session's: a sign of life, and what there is to tell. No row where it is
    /// another's by now.
    pub fn tell(&self, set: &str, returning: &str) -> String {
        let Queue { table, key, .. } = self;
        format!("update {table} j set {set} where j.{key} = $1 and {} returning {returning}", self.mine())
    }

    /// Locks row `$1` where it is this session's, to be ended; no row where it is another's by now.
    pub fn hold(&self) -> String {
        let Queue { table, key, .. } = self;
        format!("select from {table} j where j.{key} = $1 and {} for update", self.mine())
    }

    /// Ends row `$1`, with `set`: a state, and what came of it.
    pub fn end(&self, set: &str) -> String {
        let Queue { table, key, .. } = self;
        format!(
            "update {table} set {set}, ended_at = clock_timestamp(), updated_at = clock_timestamp() where {key} = $1"
        )
    }

    /// Gives row `$1` back: an end that was asked for is no failed attempt.
    pub fn release(&self) -> String {
        let Queue { table, key, .. } = self;
        format!(
            "update {table} set state = 'queued', attempts = attempts - 1, worker = null, worker_pid = null,
                    worker_started = null, updated_at = clock_timestamp()
             where {key} = $1"
        )
    }
}
