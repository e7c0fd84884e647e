//! How a test says that it, or a part of it, did not run: `make test` counts and repeats these lines at its end.

use std::io::Write;

/// Says that the calling test did not run in whole: `why`, and `how` to make it run.
///
/// The line goes past the capture of test output, which would hide it exactly because a skipped test passes.
pub fn skipped(why: &str, how: &str) {
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // Cargo appends a hash to the name of the test's source.
    let program = program.rsplit_once('-').map_or(program.as_str(), |(name, _hash)| name);
    let thread = std::thread::current();
    // The harness names the thread of a test after it.
    let test = thread.name().unwrap_or("a thread of a test");
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "skipped: {program} {test}: {why}; to run it: {how}");
}

/// Whether `variable` is set; where it is not, the calling test is said to be skipped for `what` it would show.
pub fn requested(variable: &str, what: &str, how: &str) -> bool {
    let set = std::env::var_os(variable).is_some();
    if !set {
        skipped(&format!("{what} only on request"), how);
    }
    set
}
