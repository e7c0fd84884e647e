//! Trains forecasting models from files and tables; never inside the database.
//!
//! What training is stands in `kronos-training`. Here are the command line, what is shown of a run, and the worker that runs the jobs of
//! `train_model()`.

mod error;
mod progress;
mod work;

use clap::{Args, Parser, Subcommand};
use error::{Error, Result};
use kronos_job::{Job, RankOptions};
use kronos_training::jobs::{self, Run};
use kronos_training::tasks::Trained;
use kronos_training::{Panel, TrainError, artifact, evaluate, rank};
use progress::{Terminal, Timed};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use work::Worker;

/// Name of the variable with the connection string.
const DATABASE_VARIABLE: &str = "KRONOS_DATABASE_URL";

/// Trains forecasting models from files and tables.
#[derive(Parser)]
#[command(name = "kronos-train", version)]
struct Arguments {
    /// Threads; all of the machine's without it.
    #[arg(long, global = true)]
    threads: Option<usize>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trains the model of a job file; interrupted and started again, it goes on where it stopped.
    Train {
        #[command(flatten)]
        job: JobArguments,
        /// Ends after this part of the model, such as "tokenizer".
        #[arg(long, value_name = "PART")]
        until: Option<String>,
    },
    /// Scores the windows that the weights were chosen by, a JSON document for each score.
    Score {
        #[command(flatten)]
        job: JobArguments,
        /// Scores once for each value of a key: model.forecasts.temperature=0.8,1.0.
        #[arg(long, value_name = "KEY=VALUE,...")]
        vary: Option<String>,
    },
    /// Scores forecasts of the test windows beside the baselines, as a table.
    Evaluate(JobArguments),
    /// Lists the chosen version of a model among those that come with the extension: manifest.json in the folder of artifacts.
    Publish {
        /// Folder of artifacts.
        #[arg(long, default_value = "artifacts")]
        out: PathBuf,
        /// Name of the model.
        name: String,
    },
    /// Trains, evaluates, and lists the series the model forecasts best: meant for a weekly job.
    Weekly {
        #[command(flatten)]
        job: JobArguments,
        #[command(flatten)]
        rank: RankArguments,
    },
    /// Lists the series that a model of a name forecasts best.
    Rank {
        #[command(flatten)]
        job: JobArguments,
        #[command(flatten)]
        rank: RankArguments,
    },
    /// Runs the jobs of kronos.train_model(); the connection string is read from KRONOS_DATABASE_URL.
    Work {
        /// Model directory of the server, where it may write; asked of the server without it.
        #[arg(long, env = "KRONOS_MODEL_DIR")]
        model_dir: Option<PathBuf>,
        /// Ends when no job is left, for a scheduler.
        #[arg(long)]
        once: bool,
        /// Seconds between two looks for jobs.
        #[arg(long, default_value_t = 5)]
        poll: u64,
    },
    /// Makes a version the promoted one, after checking its files.
    Promote {
        /// Folder of artifacts.
        #[arg(long, default_value = "artifacts")]
        out: PathBuf,
        /// Name of the model.
        name: String,
        /// Digest of the version, the name of its folder.
        digest: String,
    },
    /// Checks the files of an artifact and prints its manifest.
    Show {
        /// Folder of one version.
        directory: PathBuf,
    },
}

#[derive(Args)]
struct JobArguments {
    /// TOML file that describes the job.
    job: PathBuf,
    /// Sets a key of the job: train.steps=100. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Folder that the paths of data files are relative to; the working directory without it.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of artifacts.
    #[arg(long, default_value = "artifacts")]
    out: PathBuf,
}

#[derive(Args)]
struct RankArguments {
    /// Length of the list.
    #[arg(long, default_value_t = 100)]
    top: usize,
    /// Step of the forecast that is judged.
    #[arg(long, default_value_t = 1)]
    step: usize,
    /// CSV file of the list; standard output without it.
    #[arg(long)]
    list: Option<PathBuf>,
}

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the process: a step that hangs must not keep it alive.
        let twice = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop));
        if twice.and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop))).is_err() {
            eprintln!(
                "kronos-train: signals cannot be caught; an interrupted run goes on from its last checkpoint"
            );
        }
    }
    match execute(Arguments::parse(), &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_cancelled() => {
            eprintln!("kronos-train: interrupted; the same command goes on from the checkpoint");
            ExitCode::from(130)
        }
        Err(Error::Train(error @ TrainError::EndOfPart { .. })) => {
            eprintln!("kronos-train: {error}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kronos-train: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments, stop: &AtomicBool) -> Result<()> {
    if let Some(threads) = arguments.threads {
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        built.map_err(|error| Error::job(format!("threads: {error}")))?;
    }
    match arguments.command {
        Command::Train { job, until } => train(&job, until.as_deref(), stop),
        Command::Weekly { job, rank } => {
            train(&job, None, stop)?;
            list(&job, &rank, stop)
        }
        Command::Score { job, vary } => score(&job, vary.as_deref(), stop),
        Command::Evaluate(arguments) => {
            let (job, panels) = arguments.read()?;
            print!("{}", evaluate::table(&arguments.look(&job, panels, stop)?.test));
            Ok(())
        }
        Command::Publish { out, name } => {
            println!("{}", jobs::publish(&out, &name)?.display());
            Ok(())
        }
        Command::Rank { job, rank } => list(&job, &rank, stop),
        Command::Work { model_dir, once, poll } => {
            // It may hold the password: from the environment, never from the command line that everybody can read.
            let database = std::env::var(DATABASE_VARIABLE)
                .map_err(|_| Error::job(format!("set {DATABASE_VARIABLE} to the connection string")))?;
            Worker { database, model_dir, once, poll: Duration::from_secs(poll) }.run(stop)
        }
        Command::Promote { out, name, digest } => {
            println!("{}", artifact::promote(&out, &name, &digest)?.display());
            Ok(())
        }
        Command::Show { directory } => {
            let text = match artifact::open(&directory)? {
                Some(manifest) => String::from_utf8(artifact::pretty(&manifest)?).unwrap_or_default(),
                None => "no VERSION: not written by kronos-train\n".into(),
            };
            print!("{text}");
            Ok(())
        }
    }
}

impl JobArguments {
    /// The job and its rows.
    fn read(&self) -> Result<(Job, Vec<Panel>)> {
        let job = jobs::read(&self.job, &self.sets)?;
        let panels = jobs::read_sources(&job, self.data.as_deref().unwrap_or(Path::new("")))?;
        Ok((job, panels))
    }

    /// Scores of the chosen version.
    fn look(&self, job: &Job, panels: Vec<Panel>, stop: &AtomicBool) -> Result<Trained> {
        let mut terminal = Terminal::new();
        Ok(jobs::look(job, panels, &self.out, stop, &mut Timed::new(&mut terminal))?)
    }
}

fn train(arguments: &JobArguments, until: Option<&str>, stop: &AtomicBool) -> Result<()> {
    let (job, panels) = arguments.read()?;
    let command: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("kronos-train {}", command.join(" "));
    let run = Run { out: &arguments.out, command: &command, until };
    let mut terminal = Terminal::new();
    let finished = jobs::train(&job, panels, run, stop, &mut Timed::new(&mut terminal))?;
    println!("{}", finished.version.directory.display());
    Ok(())
}

fn score(arguments: &JobArguments, vary: Option<&str>, stop: &AtomicBool) -> Result<()> {
    let (job, panels) = arguments.read()?;
    let show = |value: &str, trained: Trained| match trained.validation.as_array() {
        Some(scores) => scores.iter().for_each(|score| println!("{value}{score}")),
        None => println!("{value}{}", trained.validation),
    };
    let Some(vary) = vary else {
        show("", arguments.look(&job, panels, stop)?);
        return Ok(());
    };
    let Some((key, values)) = vary.split_once('=') else {
        return Err(Error::job(format!("\"{vary}\" is not key=value,...")));
    };
    for value in values.split(',') {
        let sets: Vec<String> = arguments.sets.iter().cloned().chain([format!("{key}={value}")]).collect();
        let job = jobs::read(&arguments.job, &sets)?;
        show(&format!("{value} "), arguments.look(&job, panels.clone(), stop)?);
    }
    Ok(())
}

fn list(arguments: &JobArguments, options: &RankArguments, stop: &AtomicBool) -> Result<()> {
    let (job, panels) = arguments.read()?;
    let asked = RankOptions { step: options.step, top: options.top };
    let rows = rank::rank_best_fit(&job, &panels, &arguments.out, asked, stop)?;
    let text = rank::csv(&rows);
    match &options.list {
        Some(path) => Ok(rank::write(path, &text)?),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
