//! Writes the list of the web client's files, so that `chatctl` carries them inside.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let web = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("../web");
    println!("cargo::rerun-if-changed={}", web.display());
    let mut files = Vec::new();
    if web.is_dir() {
        list(&web, &mut files)?;
    }
    files.sort();
    let mut code = String::from("pub(super) static FILES: &[(&str, &[u8])] = &[\n");
    for file in files {
        let name = file.strip_prefix(&web).map_err(io::Error::other)?;
        let path = fs::canonicalize(&file)?;
        writeln!(
            code,
            "    ({:?}, include_bytes!({:?})),",
            name.display().to_string(),
            path.display().to_string()
        )
        .map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("web_files.rs"), code)
}

/// Everything that a browser may ask for: no hidden files, tests, documents, or installed packages.
fn list(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
        if name.starts_with('.')
            || name == "node_modules"
            || name == "test"
            || name == "tests"
            || name.contains(".test.")
        {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else if !name.ends_with(".md") && name != "package.json" && name != "package-lock.json" {
            files.push(path);
        }
    }
    Ok(())
}
