//! The set-up files of people's tables, in the order of `install.sql`, so that a program needs no checkout to set up a database.

/// One file: an idempotent script that records its version in `market.installed_files` under its name.
#[derive(Clone, Copy, Debug)]
pub struct SetupFile {
    /// Path below `sql/`; the folder is the subject: `market/ticks.sql`.
    pub name: &'static str,
    /// What it says.
    pub script: &'static str,
}

/// All files, each after those that it needs.
pub const FILES: &[SetupFile] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_file_is_listed_and_records_its_version_under_its_name() {
        let mut listed = BTreeSet::new();
        for SetupFile { name, script } in FILES {
            assert_eq!(script.matches(&format!("call market.record_file('{name}', ")).count(), 1, "{name}");
            assert!(listed.insert((*name).to_owned()), "{name} is listed twice");
        }
        let mut found = BTreeSet::new();
        for folder in
            fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap().flatten().filter(|entry| entry.path().is_dir())
        {
            for file in fs::read_dir(folder.path()).unwrap().flatten() {
                if file.path().extension().is_some_and(|extension| extension == "sql") {
                    let below = Path::new(&folder.file_name()).join(file.file_name());
                    found.insert(below.to_str().unwrap().to_owned());
                }
            }
        }
        assert_eq!(listed, found);
    }
}
