//! `cargo metadata ... | kronos-dependencies deny.toml`: a line for each crate that is not allowed, and status 1.

use kronos_dependencies::{Metadata, Rules, complaints};
use std::error::Error;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: cargo metadata ... | kronos-dependencies deny.toml")?;
    let rules: Rules = toml::from_str(&std::fs::read_to_string(&path)?)?;
    let metadata: Metadata = serde_json::from_reader(std::io::stdin().lock())?;
    let found = complaints(&metadata, &rules);
    for complaint in &found {
        println!("{complaint}");
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
