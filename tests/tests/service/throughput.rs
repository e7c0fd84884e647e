//! Figures of the service: what sharing batches gains, what the way to the engine costs.
//!
//! They depend on the machine and on who else uses it, so they run on request: `KRONOS_BENCH=1`.

use crate::cluster::Cluster;
use crate::model::{MINI, Size, install};
use kronos_tests::{Client, rows};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 8;
/// A predictor narrower than that of kronos-nano behind the tokenizer of the published models.
const NARROW: Size = Size(128, 4, 256, 2);

fn wanted() -> bool {
    kronos_skip::requested("KRONOS_BENCH", "the speed of the service is measured", "make bench")
}

fn query(model: &str, number: usize, samples: usize, horizon: usize) -> String {
    let symbol = ["A", "B", "C", "D", "E", "F", "G", "H"][number % 8];
    format!(
        "select count(*) from kronos_predict('bars', {horizon}, model => '{model}', series_col => 'symbol', \
         only_series => '{{{symbol}}}', samples => {samples}, seed => 1)"
    )
}

/// Series per second of `rounds` requests of each connection, all at once.
fn rate(clients: &mut [Client], rounds: usize, query: impl Fn(usize) -> String + Sync) -> f64 {
    let connections = clients.len();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let sql = query(number);
            scope.spawn(move || (0..rounds).for_each(|_| drop(rows(client, &sql))));
        }
    });
    (rounds * connections) as f64 / began.elapsed().as_secs_f64()
}

#[test]
fn connections_together_outrun_one_after_the_other() {
    if !wanted() {
        return;
    }
    let cluster = Cluster::with(&[("kronos.threads", "2")]);
    install(&cluster, "narrow", NARROW);
    install(&cluster, "mini", MINI);
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| cluster.connect()).collect();
    for model in ["kronos-nano", "narrow", "mini"] {
        for (samples, horizon) in [(1, 24), (1, 112), (32, 24)] {
            let ask = |number| query(model, number, samples, horizon);
            rate(&mut clients, 2, ask);
            let alone = rate(&mut clients[..1], 24, ask);
            let together = rate(&mut clients, 24, ask);
            println!(
                "{model} context 120 horizon {horizon} paths {samples}: {alone:.0} series/s one after the other, \
                 {together:.0} by {CONNECTIONS} connections, {:.1} times",
                together / alone
            );
        }
    }
}

/// Median time of a small request.
fn latency(client: &mut Client) -> Duration {
    let sql = query("kronos-default", 0, 1, 1);
    rows(client, &sql);
    let mut times: Vec<Duration> = (0..400)
        .map(|_| {
            let began = Instant::now();
            rows(client, &sql);
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn the_way_to_the_engine_costs_less_than_a_millisecond() {
    if !wanted() {
        return;
    }
    let shared = latency(&mut Cluster::with(&[]).connect());
    let own = latency(&mut Cluster::with(&[("kronos.service", "off")]).connect());
    println!("one series, one path, one bar: {shared:?} by the service, {own:?} in the session");
    assert!(shared < own + Duration::from_millis(1));
}
