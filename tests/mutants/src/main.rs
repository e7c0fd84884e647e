//! `make mutants`.

use clap::Parser;
use kronos_mutants::Result;
use kronos_mutants::copy::Copy;
use kronos_mutants::run::{Outcome, Runner};
use kronos_mutants::score::{Score, Verdict};
use kronos_mutants::table::{self, Mutant};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Puts each fault of the table into a copy of the project and runs the tests that are meant to notice.
#[derive(Parser)]
struct Arguments {
    /// Only mutants whose file or reason contains this text
    only: Option<String>,
    /// Pass over rows that an earlier run saw caught, and that have not changed since
    #[arg(long)]
    resume: bool,
    /// Where the copy, its builds and the report go
    #[arg(long, default_value = "target/mutants")]
    folder: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let project = fs::canonicalize(".")?;
    let mut mutants = table::read(Path::new("tests/mutants/table"))?;
    if let Some(only) = &arguments.only {
        mutants.retain(|mutant| mutant.to_string().contains(only));
    }
    fs::create_dir_all(&arguments.folder)?;
    let folder = fs::canonicalize(&arguments.folder)?;
    let copy = Copy::of(&project, folder.join("tree"))?;
    let mut journal = Journal::open(folder.join("journal.jsonl"), arguments.resume)?;
    let mut runner = Runner::new(copy.root(), folder.join("output.log"))?;
    // All of them before the first fault: each change of the code costs a build.
    for mutant in mutants.iter().filter(|mutant| journal.find(mutant).is_none()) {
        for tests in &mutant.tests {
            runner.measure(tests, mutant.needs)?;
        }
    }
    let mut score = Score::default();
    for (number, mutant) in mutants.iter().enumerate() {
        let since = Instant::now();
        let verdict = match journal.find(mutant) {
            Some(verdict) => verdict,
            None => {
                let verdict = judge(&copy, &mut runner, mutant)?;
                journal.add(mutant, verdict)?;
                verdict
            }
        };
        let (seconds, all) = (since.elapsed().as_secs(), mutants.len());
        println!("{:>3}/{all} {verdict:?} in {seconds} s: {mutant}", number + 1);
        score.add(mutant, verdict);
    }
    runner.finish()?;
    println!("{score}");
    Ok(if score.suffices() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the fault in, runs its tests until one fails, and takes the fault out.
fn judge(copy: &Copy, runner: &mut Runner, mutant: &Mutant) -> Result<Verdict> {
    let text = copy.read(&mutant.file)?;
    let mutated = mutant.apply(&text)?;
    copy.write(&mutant.file, &mutated)?;
    let mut verdict = Ok(Verdict::Survived);
    for tests in &mutant.tests {
        verdict = runner.run(tests, mutant.needs).map(|outcome| match outcome {
            Outcome::Passed => Verdict::Survived,
            Outcome::Failed => Verdict::Caught,
            Outcome::NotBuilt | Outcome::NoTest => Verdict::Invalid,
        });
        if !matches!(verdict, Ok(Verdict::Survived)) {
            break;
        }
    }
    copy.write(&mutant.file, &text)?;
    verdict
}

/// Verdicts as they came, so that a run that was broken off can go on; who survived is tried again.
struct Journal {
    file: File,
    verdicts: Vec<(String, Verdict)>,
}

impl Journal {
    fn open(path: PathBuf, resume: bool) -> Result<Self> {
        let text = if resume { fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        // The last line of a run that was killed may be torn.
        let verdicts = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let file = File::options().create(true).write(true).truncate(!resume).append(resume).open(path)?;
        Ok(Self { file, verdicts })
    }

    fn find(&self, mutant: &Mutant) -> Option<Verdict> {
        let row = format!("{mutant:?}");
        let caught = (row, Verdict::Caught);
        self.verdicts.contains(&caught).then_some(Verdict::Caught)
    }

    fn add(&mut self, mutant: &Mutant, verdict: Verdict) -> Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(&(format!("{mutant:?}"), verdict))?)?;
        Ok(())
    }
}
