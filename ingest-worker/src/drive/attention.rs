//! How many times as much as others a symbol matters now, where there is too much to ask about all of them alike.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::watch;
use tokio_postgres::Client;

use super::stopped;
use crate::postgres::Database;

/// Positions and calendars change by the hour.
const EVERY: Duration = Duration::from_secs(300);

/// Weights of the configuration, times what `market.attention` says of positions and events.
#[derive(Debug, Default)]
pub struct Attention {
    weights: BTreeMap<String, f64>,
    now: RwLock<BTreeMap<String, f64>>,
}

impl Attention {
    /// What the configuration says, by our symbols.
    pub fn new(weights: BTreeMap<String, f64>) -> Self {
        Attention { weights, now: RwLock::default() }
    }

    /// How many times as much as others a symbol matters.
    pub fn of(&self, symbol: &str) -> f64 {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let weight = |of: &BTreeMap<String, f64>| of.get(symbol).copied().unwrap_or(1.0);
        weight(&self.weights) * weight(&now)
    }

    /// Reads it from the database.
    ///
    /// # Errors
    /// The database's error; what was read before stands.
    pub async fn read(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let rows = client.query("select symbol, urgency from market.attention()", &[]).await?;
        let read = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Reads it again and again until `shutdown` is true.
    pub async fn follow(self: Arc<Self>, database: Database, mut shutdown: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let read = async {
                let client = database.connect().await.map_err(|e| e.to_string())?;
                self.read(&client).await.map_err(|e| crate::error::database_message(&e))
            };
            if let Err(error) = read.await {
                tracing::warn!(error, "positions and events could not be read; the last ones count");
            }
        }
    }
}
