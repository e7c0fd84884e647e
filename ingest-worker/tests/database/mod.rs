//! A real database with the tables of `sql/`, filled and read by the worker's own statements.

// Each test program uses its part of this.
#![allow(dead_code)]

use kronos_ingest::{
    drive::{Anchor, KnownGap, KnownRefusal, Mark, live},
    migrate::migrate,
    postgres::Database,
    store::{Batch, Store, UsageRow},
};
use kronos_tests::Cluster;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::SimpleQueryMessage;

/// The tables, in a database that belongs to one test.
pub struct Tables {
    store: Store,
    runtime: Runtime,
    // Dropped last: the worker's connection lives in it.
    db: kronos_tests::Database,
}

impl Tables {
    /// Empty tables for the test called `test`.
    pub fn new(test: &str) -> Self {
        let db = kronos_tests::Database::new(test);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let database = database(&db);
        let store = runtime.block_on(async {
            migrate(&database).await.unwrap();
            Store::new(database.connect().await.unwrap()).await.unwrap()
        });
        Tables { store, runtime, db }
    }

    /// Stores `batches` as the writer does: in one transaction.
    #[track_caller]
    pub fn store(&mut self, batches: &[Batch]) {
        self.try_store(batches).unwrap();
    }

    /// Stores `batches`, or says why the server does not.
    pub fn try_store(&mut self, batches: &[Batch]) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.store.write(batches)).map(drop)
    }

    /// Where a worker that starts now finds its feed.
    pub fn resume(&self, feed: &str) -> (Vec<Anchor>, Vec<KnownGap>) {
        self.runtime.block_on(live::resume_state(self.store.client(), feed)).unwrap()
    }

    /// Where a worker that starts now finds its feed that is polled.
    pub fn resume_polls(&self, feed: &str) -> (Vec<Mark>, Vec<KnownRefusal>) {
        self.runtime.block_on(live::resume_polls(self.store.client(), feed)).unwrap()
    }

    /// What a worker that starts now knows of the use of its feed.
    pub fn resume_usage(&self, feed: &str) -> Vec<UsageRow> {
        self.runtime.block_on(live::resume_usage(self.store.client(), feed)).unwrap()
    }

    /// Runs statements and returns the rows of the last of them, each as its values separated by blanks.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let messages = self.runtime.block_on(self.store.client().simple_query(sql)).unwrap();
        let values = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or("-")).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        };
        messages.into_iter().filter_map(values).collect()
    }

    /// Another connection.
    pub fn connect(&self) -> kronos_tests::Client {
        self.db.connect()
    }

    /// How the worker reaches the database.
    pub fn database(&self) -> Database {
        database(&self.db)
    }
}

fn database(db: &kronos_tests::Database) -> Database {
    Database::at(&Cluster::get().connection_string(db.name()), None).unwrap()
}
