//! The copy of the project that faults are put into.

use crate::Result;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the working tree with a build folder of its own.
pub struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Brings the copy at `root` up to `project`: what git tracks and what it does not ignore, whether committed or not.
    ///
    /// Files that did not change keep their time of change, so that cargo builds only what did.
    ///
    /// # Errors
    ///
    /// git does not answer, or a file cannot be read or written.
    pub fn of(project: &Path, root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root)?;
        let mut names = HashSet::new();
        for name in listed(project)? {
            let from = project.join(&name);
            // A file that was removed and not committed is still listed.
            if from.is_file() {
                let to = root.join(&name);
                if let Some(folder) = to.parent() {
                    fs::create_dir_all(folder)?;
                }
                write_if_changed(&to, &fs::read(&from)?)?;
                let mode = fs::metadata(&from)?.permissions().mode();
                fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
                names.insert(PathBuf::from(name));
            }
        }
        remove_others(&root, &root, &names)?;
        // Tests that need the folder beside a clone find it beside the copy.
        let (shared, link) = (project.join("../shared"), root.join("../shared"));
        if shared.is_dir() && !link.exists() {
            std::os::unix::fs::symlink(fs::canonicalize(shared)?, link)?;
        }
        share_builds(project, &root)?;
        Ok(Self { root })
    }

    /// The folder of the copy.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The text of a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.root.join(file)).map_err(|error| format!("{file}: {error}").into())
    }

    /// Replaces the text of a file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        write_if_changed(&self.root.join(file), text.as_bytes())
    }
}

/// Gives a new copy what the project has built: cargo takes the dependencies as they are.
fn share_builds(project: &Path, root: &Path) -> Result<()> {
    let (built, target) = (project.join("target/release"), root.join("target"));
    if built.is_dir() && !target.exists() {
        fs::create_dir(&target)?;
        if !Command::new("cp").arg("-a").args([&built, &target]).status()?.success() {
            return Err(format!("{} could not be copied", built.display()).into());
        }
    }
    Ok(())
}

fn listed(project: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(project)
        .output()?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.split_terminator('\0').map(str::to_owned).collect())
}

fn write_if_changed(path: &Path, content: &[u8]) -> Result<()> {
    if !fs::read(path).is_ok_and(|present| present == content) {
        fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Removes what the project no longer has; what is built lies in `target` and stays.
fn remove_others(root: &Path, folder: &Path, names: &HashSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(root)?;
        if name == Path::new("target") {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            remove_others(root, &path, names)?;
        } else if !names.contains(name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
