//! `config.json` of a toy.

use kronos_models::artifact::read_config;
use kronos_models::error::Result;
use std::path::Path;

#[derive(serde::Deserialize)]
pub struct Config {
    /// What a path gains in a step.
    pub slope: f64,
}

impl Config {
    pub fn read(directory: &Path) -> Result<Self> {
        read_config(&directory.join("config.json"))
    }
}
