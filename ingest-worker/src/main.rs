//! `kronos-ingest`: brings market data from feeds and files into PostgreSQL.

fn main() {
    println!("kronos-ingest {}", env!("CARGO_PKG_VERSION"));
}
