//! The command line.

use clap::{Args, Parser, Subcommand};
use kronos_train::error::{Error, Result};
use kronos_train::progress::Terminal;
use kronos_train::work::Worker;
use kronos_train::{job, rank, run};
use kronos_training::artifact;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

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
    Train(JobArguments),
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
        Err(error) => {
            eprintln!("kronos-train: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: Arguments, stop: &AtomicBool) -> Result<()> {
    if let Some(threads) = arguments.threads {
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        built.map_err(|error| Error::Job(format!("threads: {error}")))?;
    }
    match arguments.command {
        Command::Train(job) => train(&job, stop),
        Command::Weekly { job, rank } => {
            train(&job, stop)?;
            list(&job, &rank, stop)
        }
        Command::Rank { job, rank } => list(&job, &rank, stop),
        Command::Work { model_dir, once, poll } => {
            // It may hold the password: from the environment, never from the command line that everybody can read.
            let database = std::env::var(DATABASE_VARIABLE)
                .map_err(|_| Error::Job(format!("set {DATABASE_VARIABLE} to the connection string")))?;
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

fn train(arguments: &JobArguments, stop: &AtomicBool) -> Result<()> {
    let job = job::read(&arguments.job, &arguments.sets)?;
    let panels = run::read_sources(&job)?;
    let command: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("kronos-train {}", command.join(" "));
    let mut watcher = Terminal::new();
    let finished = run::run(&job, panels, &arguments.out, &command, stop, &mut watcher)?;
    println!("{}", finished.version.directory.display());
    Ok(())
}

fn list(arguments: &JobArguments, options: &RankArguments, stop: &AtomicBool) -> Result<()> {
    let job = job::read(&arguments.job, &arguments.sets)?;
    let panels = run::read_sources(&job)?;
    let rows = rank::rank_best_fit(&job, &panels, &arguments.out, (options.step, options.top), stop)?;
    let text = rank::csv(&rows);
    match &options.list {
        Some(path) => rank::write(path, &text),
        None => {
            print!("{text}");
            Ok(())
        }
    }
}
