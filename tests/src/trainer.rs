//! The program that trains models, logged in as the role of a worker.

use crate::{Cluster, Database, project_root};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// `kronos-train work` as a role made for it.
pub struct TrainingWorker {
    role: String,
    database: String,
}

impl TrainingWorker {
    /// A worker with a role of its own that may do what a worker does.
    pub fn of(db: &Database) -> Self {
        let role = db.role("training_worker");
        db.run(&format!("select kronos.grant_training_worker('{role}')"));
        Self::logged_in_as(db, &role)
    }

    /// A worker that logs in as any role.
    pub fn logged_in_as(db: &Database, role: &str) -> Self {
        Self { role: role.to_owned(), database: db.name().to_owned() }
    }

    /// The role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The command that runs all jobs there are and ends.
    pub fn command(&self) -> Command {
        let mut command = Command::new(project_root().join("target/release/kronos-train"));
        // Of a key that comes twice the later value counts.
        let address = format!("{} user='{}'", Cluster::get().connection_string(&self.database), self.role);
        command
            .args(["work", "--once", "--threads", "1"])
            .env("KRONOS_DATABASE_URL", address)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs all jobs there are, however they end.
    #[track_caller]
    pub fn work(&self) {
        let output = self.output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs the command to its end.
    pub fn output(&self) -> Output {
        self.command().output().expect("the program can be run")
    }
}

/// What the jobs of a test leave in the model directory, which tests share; removed at the end of the test.
pub struct TrainedFiles<'d>(&'d Database);

impl<'d> TrainedFiles<'d> {
    /// Of all jobs that the database will have.
    pub fn of(db: &'d Database) -> Self {
        Self(db)
    }

    /// The folders of the jobs there are.
    pub fn folders(&self) -> Vec<PathBuf> {
        let base = PathBuf::from(self.0.value("show kronos.model_dir")).join("trained");
        let names = self.0.rows("select job_id || '-' || folder from training.jobs order by job_id");
        names.into_iter().flatten().flatten().map(|name| base.join(name)).collect()
    }
}

impl Drop for TrainedFiles<'_> {
    fn drop(&mut self) {
        for path in self.folders() {
            // A job that came to nothing has left nothing.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
