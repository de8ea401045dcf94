//! Installs the peers, once, and says which versions they have.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Tool;
use crate::Result;

/// Where the tools are.
pub(crate) struct Installed {
    folder: PathBuf,
    lists: PathBuf,
    /// Why the packages of npm are not there.
    pub(crate) without_npm: Option<String>,
}

impl Installed {
    /// Installs what is missing or another version. Without Python there is no cloud for any of them.
    pub(crate) fn prepare(root: &Path) -> Result<Self> {
        let lists = root.join("tests/bench/deploy");
        let folder = root.join("target/bench/deploy");
        fs::create_dir_all(&folder).map_err(|e| format!("failed to make {}: {e}", folder.display()))?;
        python(&lists, &folder)?;
        let without_npm = npm(&lists, &folder).err();
        Ok(Self { folder, lists, without_npm })
    }

    pub(crate) fn python_bin(&self) -> PathBuf {
        self.folder.join("venv/bin")
    }

    pub(crate) fn node_modules(&self) -> PathBuf {
        self.folder.join("node_modules")
    }

    /// Why this one cannot run, if it cannot.
    pub(crate) fn missing(&self, tool: Tool) -> Option<&str> {
        if tool == Tool::Sam { None } else { self.without_npm.as_deref() }
    }

    /// The version that the lists pin.
    pub(crate) fn version(&self, tool: Tool) -> String {
        let package = tool.package();
        let read = |name: &str| fs::read_to_string(self.lists.join(name)).unwrap_or_default();
        let pinned = if tool == Tool::Sam {
            let start = format!("{package}==");
            read("requirements.txt").lines().find_map(|line| Some(line.strip_prefix(&start)?.to_owned()))
        } else {
            let list: serde_json::Value = serde_json::from_str(&read("package.json")).unwrap_or_default();
            list["dependencies"][package].as_str().map(str::to_owned)
        };
        pinned.unwrap_or_default()
    }
}

fn python(lists: &Path, folder: &Path) -> Result<()> {
    let list = lists.join("requirements.txt");
    if is_current(&list, &folder.join("venv/installed.txt")) {
        return Ok(());
    }
    eprintln!("deploy_bench: installing moto and SAM from PyPI in target/bench/deploy");
    call(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder.join("venv")))?;
    call(
        Command::new(folder.join("venv/bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&list),
    )?;
    keep(&list, &folder.join("venv/installed.txt"))
}

fn npm(lists: &Path, folder: &Path) -> Result<()> {
    let lock = lists.join("package-lock.json");
    if is_current(&lock, &folder.join("node_modules/installed.json")) {
        return Ok(());
    }
    eprintln!("deploy_bench: installing the CDK and Serverless from npm in target/bench/deploy");
    for file in ["package.json", "package-lock.json"] {
        keep(&lists.join(file), &folder.join(file))?;
    }
    call(
        Command::new("npm")
            .args(["ci", "--no-fund", "--no-audit", "--ignore-scripts", "--loglevel=error"])
            .current_dir(folder),
    )?;
    keep(&lock, &folder.join("node_modules/installed.json"))
}

/// Whether a list is the one that was kept after the last installation.
fn is_current(list: &Path, kept: &Path) -> bool {
    fs::read(list).ok().is_some_and(|list| fs::read(kept).ok() == Some(list))
}

fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).map_err(|e| format!("failed to write {}: {e}", to.display()))
}

fn call(command: &mut Command) -> Result<()> {
    match command.stdin(Stdio::null()).stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", command.get_program().to_string_lossy())),
        Err(e) => Err(format!("failed to run {}: {e}", command.get_program().to_string_lossy())),
    }
}
