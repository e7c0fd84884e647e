//! `kronos-circles FOLDER...`: the circles between the modules of the crates in these folders, and status 1 where there are some.

use kronos_dependencies::circles::{circles, sources};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut code = ExitCode::SUCCESS;
    for folder in std::env::args().skip(1) {
        for circle in circles(&sources(Path::new(&folder))?) {
            println!("{folder}:");
            circle.iter().for_each(|arrow| println!("    {arrow}"));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
