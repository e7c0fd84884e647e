//! Makes the list of set-up files from install.sql, which is the only one.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let target = env::var("OUT_DIR").map_err(io::Error::other)?;
    println!("cargo::rerun-if-changed=install.sql");
    let mut list = String::from("&[\n");
    for name in fs::read_to_string("install.sql")?.lines().filter_map(|line| line.strip_prefix("\\ir ")) {
        println!("cargo::rerun-if-changed={name}");
        let path = Path::new(&folder).join(name);
        writeln!(list, "    SetupFile {{ name: {name:?}, script: include_str!({path:?}) }},")
            .map_err(io::Error::other)?;
    }
    list.push(']');
    fs::write(Path::new(&target).join("files.rs"), list)
}
