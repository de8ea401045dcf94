//! Installs what the tests need beyond Rust: Chromium and Node.js by the system's packages, a Python environment and
//! Node packages from pinned lists. What is there already is left alone; what cannot be installed is named.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the tools are that the steps call.
pub(crate) struct Tools {
    /// `bin` of the Python environment.
    pub(crate) python_bin: PathBuf,
    pub(crate) chromium: PathBuf,
}

/// Oldest Node.js with the test runner's features that the browser tests use.
const NODE_MAJOR: u32 = 20;

pub(crate) fn run(root: &Path, install: bool) -> Result<Tools, String> {
    let chromium = chromium(install)?;
    node(install)?;
    let python_bin = python(root, "venv", "tests/requirements.txt", "python3", install)?;
    python(root, "checkov", "tests/oracles/checkov.txt", "python3", install)?;
    python(root, "emulators", "tests/oracles/emulators.txt", newest_python(), install)?;
    node_packages(root, install)?;
    offline_packages(root, install)?;
    Ok(Tools { python_bin, chromium })
}

fn chromium(install: bool) -> Result<PathBuf, String> {
    let find = || {
        std::env::var_os("CHROMIUM")
            .map(PathBuf::from)
            .into_iter()
            .chain(["chromium", "chromium-browser", "google-chrome"].iter().filter_map(|name| on_path(name)))
            .find(|path| path.exists())
    };
    if let Some(path) = find() {
        return Ok(path);
    }
    if install {
        apt(&["chromium"])?;
    }
    find().ok_or_else(|| {
        "Chromium is missing: install it with your system's packages, or set CHROMIUM to its path".into()
    })
}

fn node(install: bool) -> Result<(), String> {
    let major = || -> Option<u32> {
        let text = output("node", ["--version"])?;
        text.trim().trim_start_matches('v').split('.').next()?.parse().ok()
    };
    if major().is_none() && install {
        apt(&["nodejs", "npm"])?;
    }
    match major() {
        Some(found) if found >= NODE_MAJOR && on_path("npm").is_some() => Ok(()),
        Some(found) => {
            Err(format!("Node.js {NODE_MAJOR} or newer with npm is needed; found version {found}"))
        }
        None => Err(format!("Node.js {NODE_MAJOR} or newer with npm is needed: install it")),
    }
}

/// A Python of at least the version that ministack wants, or else the usual one: the list leaves ministack out there,
/// and its oracle says that it is skipped. The versions that pyenv keeps are found although none of them is chosen.
fn newest_python() -> PathBuf {
    const IS_NEW_ENOUGH: [&str; 2] = ["-c", "import sys; sys.exit(sys.version_info < (3, 12))"];
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")))
        .and_then(|pyenv| fs::read_dir(pyenv.join("versions")).ok());
    let kept = pyenv.into_iter().flatten().flatten().map(|version| version.path().join("bin/python3"));
    ["python3", "python3.12", "python3.13", "python3.14"]
        .iter()
        .map(PathBuf::from)
        .chain(kept)
        .find(|python| output(python, IS_NEW_ENOUGH).is_some())
        .unwrap_or_else(|| "python3".into())
}

/// A Python environment in `target/xtask/{name}` with what a list pins.
fn python(
    root: &Path,
    name: &str,
    list: &str,
    with: impl AsRef<OsStr>,
    install: bool,
) -> Result<PathBuf, String> {
    let venv = root.join("target/xtask").join(name);
    let bin = venv.join("bin");
    let wanted = root.join(list);
    let stamp = format!("python-{name}");
    if is_current(root, &stamp, &[&wanted])? && bin.join("python").exists() {
        return Ok(bin);
    }
    if !install {
        return Err("the Python environment is missing or old: run `cargo xtask setup`".into());
    }
    say(&format!("a Python environment in target/xtask/{name} with {list}"));
    if output("python3", ["-c", "import ensurepip, venv"]).is_none() {
        apt(&["python3", "python3-venv"])?;
    }
    call(Command::new(with).args(["-m", "venv", "--clear"]).arg(&venv))?;
    call(
        Command::new(bin.join("python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&wanted),
    )?;
    mark_current(root, &stamp, &[&wanted])?;
    Ok(bin)
}

fn node_packages(root: &Path, install: bool) -> Result<(), String> {
    let folder = root.join("tests");
    let lock = folder.join("package-lock.json");
    if is_current(root, "node", &[&lock])? && folder.join("node_modules").exists() {
        return Ok(());
    }
    if !install {
        return Err("the Node packages are missing or old: run `cargo xtask setup`".into());
    }
    say("Node packages in tests/node_modules from tests/package-lock.json");
    npm_ci(&folder)?;
    mark_current(root, "node", &[&lock])
}

fn npm_ci(folder: &Path) -> Result<(), String> {
    // Browsers come from the system's packages; no package may download one of its own.
    call(
        Command::new("npm")
            .args(["ci", "--no-fund", "--no-audit", "--ignore-scripts", "--loglevel=error"])
            .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
            .current_dir(folder),
    )
}

/// serverless-offline as the benchmark pins it, for the oracle of handshakes.
fn offline_packages(root: &Path, install: bool) -> Result<(), String> {
    let from = root.join("tests/bench/peer");
    let lock = from.join("package-lock.json");
    let folder = root.join("target/xtask/offline");
    if is_current(root, "offline", &[&lock])? && folder.join("node_modules").exists() {
        return Ok(());
    }
    if !install {
        return Err("serverless-offline is missing or old: run `cargo xtask setup`".into());
    }
    say("Node packages in target/xtask/offline from tests/bench/peer/package-lock.json");
    let copied = fs::create_dir_all(&folder).and_then(|()| {
        ["package.json", "package-lock.json"]
            .iter()
            .try_for_each(|name| fs::copy(from.join(name), folder.join(name)).map(drop))
    });
    copied.map_err(|e| format!("failed to prepare {}: {e}", folder.display()))?;
    npm_ci(&folder)?;
    mark_current(root, "offline", &[&lock])
}

fn apt(packages: &[&str]) -> Result<(), String> {
    if on_path("apt-get").is_none() {
        return Err(format!(
            "needed and missing: {}. Install with your system's packages",
            packages.join(", ")
        ));
    }
    let root_user = output("id", ["-u"]).is_some_and(|id| id.trim() == "0");
    let apt_get = |args: &[&str]| {
        let mut command = if root_user { Command::new("apt-get") } else { Command::new("sudo") };
        if !root_user {
            command.arg("apt-get");
        }
        call(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    say(&format!("system packages: {}", packages.join(", ")));
    apt_get(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(packages);
    apt_get(&args)
}

/// Whether the files are the same as when `mark_current` was last called.
fn is_current(root: &Path, name: &str, files: &[&Path]) -> Result<bool, String> {
    Ok(fs::read_to_string(stamp(root, name)).is_ok_and(|old| Ok(old) == fingerprint(files)))
}

fn mark_current(root: &Path, name: &str, files: &[&Path]) -> Result<(), String> {
    let path = stamp(root, name);
    fs::write(&path, fingerprint(files)?).map_err(|e| format!("failed to write {}: {e}", path.display()))
}

fn stamp(root: &Path, name: &str) -> PathBuf {
    root.join("target/xtask").join(format!("{name}.stamp"))
}

fn fingerprint(files: &[&Path]) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        fs::read(file).map_err(|e| format!("failed to read {}: {e}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:x}", hasher.finish()))
}

fn say(what: &str) {
    println!("xtask: installing {what}");
}

pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

fn output<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: I) -> Option<String> {
    let done = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a command with its output shown.
pub(crate) fn call(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} ended with {status}")),
        Err(e) => Err(format!("failed to run {shown}: {e}")),
    }
}
