//! `kronos-recipe`: trains the default models of the project.
//!
//! A recipe is a JSON file; see `models/artifacts`. A run that is ended at any time goes on where its last checkpoint is
//! when the same command is given again.

mod chronos2;
mod data;
mod error;
mod evaluate;
mod kronos;
mod part;
mod publish;
mod recipe;

use clap::{Parser, Subcommand};
use error::Result;
use recipe::{ModelRecipe, Recipe};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(about = "Trains the default models of the project from their recipes")]
struct Arguments {
    /// The recipe.
    #[arg(long)]
    recipe: PathBuf,
    /// Folder of the data that the recipe names.
    #[arg(long)]
    data: PathBuf,
    /// Folder for checkpoints and for parts that are finished.
    #[arg(long)]
    work: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, PartialEq, Subcommand)]
enum Command {
    /// Trains the first part of the model that is not finished yet, and goes on until all are.
    Train {
        /// Ends after this part: `tokenizer` or `predictor`.
        #[arg(long)]
        only: Option<String>,
    },
    /// Forecasts the validation windows at several temperatures.
    Score {
        /// Softmax temperatures.
        #[arg(long, value_delimiter = ',', default_value = "1.0")]
        temperatures: Vec<f32>,
        /// Paths per window.
        #[arg(long, default_value_t = 64)]
        paths: usize,
    },
    /// Scores forecasts of the test windows beside the baselines, as a table.
    Evaluate {
        /// Names of the sources.
        #[arg(long, value_delimiter = ',', default_value = "us_equities_daily,crypto_4h,us_etf_5min")]
        sources: Vec<String>,
        /// Steps of a forecast.
        #[arg(long, default_value_t = 12)]
        horizon: usize,
        /// Windows of a source.
        #[arg(long, default_value_t = 400)]
        windows: usize,
    },
    /// Writes the artifact and lists it among the models that come with the extension.
    Publish {
        /// Folder of the artifacts.
        #[arg(long)]
        out: PathBuf,
    },
}

fn run(arguments: &Arguments) -> Result<()> {
    let recipe = Recipe::read(&arguments.recipe)?;
    match &recipe.model {
        ModelRecipe::Kronos(model) => kronos::run(&recipe, model, arguments),
        ModelRecipe::Chronos2(model) => chronos2::run(&recipe, model, arguments),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
