//! What builds the handlers: cargo for the machine it runs on, or cargo-zigbuild for Lambda from any machine. Zig links
//! against the C library of a given version, so its programs run on Lambda whatever this machine has.

use std::path::{Path, PathBuf};
use std::process::Command;

use chat_stacks::glibc::{self, Program};
use chat_stacks::settings::{Architecture, Endpoint};
use chat_stacks::{Handler, StageSettings};

use crate::env;
use crate::error::{CliError, Result};

/// How to get the tools. Both come from PyPI as well, so a machine needs no package manager of its own for them.
pub(crate) const INSTALL_ZIGBUILD: &str =
    "pip install cargo-zigbuild ziglang, or cargo install cargo-zigbuild";
pub(crate) const INSTALL_ZIG: &str = "pip install ziglang, or https://ziglang.org/download";

/// How the handlers of a stage are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// For this machine, by cargo alone.
    Cargo,
    /// For Lambda, by cargo-zigbuild. The target is without the version of the C library.
    Zigbuild { target: &'static str },
}

impl Toolchain {
    /// What a stage's handlers are to be built with, as far as this machine has it.
    pub(crate) fn of(settings: &StageSettings) -> Result<Self> {
        if settings.endpoint != Endpoint::Aws {
            // A cloud on this machine runs what this machine builds.
            return Ok(Self::Cargo);
        }
        Self::for_lambda(settings.lambda.architecture, &Machine::this())
    }

    fn for_lambda(architecture: Architecture, machine: &Machine) -> Result<Self> {
        let target = target(architecture);
        let wanted = architecture.name();
        if machine.has_zigbuild && machine.has_zig {
            if machine.targets.iter().any(|installed| installed == target) {
                return Ok(Self::Zigbuild { target });
            }
            return Err(cannot_build(wanted, machine).help(format!("rustup target add {target}")));
        }
        if machine.builds_for(wanted) {
            // What it links against is read before it is uploaded.
            return Ok(Self::Cargo);
        }
        let mut steps = Vec::new();
        if !machine.has_zigbuild {
            steps.push(INSTALL_ZIGBUILD.to_owned());
        } else if !machine.has_zig {
            steps.push(INSTALL_ZIG.to_owned());
        }
        if !machine.targets.iter().any(|installed| installed == target) {
            steps.push(format!("rustup target add {target}"));
        }
        Err(cannot_build(wanted, machine).help(format!(
            "to build for it from here: {}. `chatctl doctor` looks again",
            steps.join("; then ")
        )))
    }

    /// The subcommand of cargo that builds, and its target.
    pub(crate) fn args(&self) -> Vec<String> {
        match self {
            Self::Cargo => vec!["build".to_owned()],
            Self::Zigbuild { target } => {
                vec!["zigbuild".to_owned(), "--target".to_owned(), format!("{target}.{}", glibc::LAMBDA)]
            }
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Zigbuild { .. } => "cargo-zigbuild",
        }
    }
}

/// The target of rustc that Lambda's architecture is.
pub(crate) const fn target(architecture: Architecture) -> &'static str {
    match architecture.name().as_bytes() {
        b"arm64" => "aarch64-unknown-linux-gnu",
        _ => "x86_64-unknown-linux-gnu",
    }
}

fn cannot_build(wanted: &str, machine: &Machine) -> CliError {
    CliError::failed(
        "cannot_cross_build",
        format!("handlers for Lambda on {wanted} cannot be built on this machine ({})", machine.name()),
    )
}

/// Refuses a handler that would not start on Lambda. Read before every upload, whatever has built it.
pub(crate) fn check(handler: Handler, binary: &Path, architecture: Architecture) -> Result<Program> {
    let bytes = std::fs::read(binary).map_err(|e| {
        CliError::failed("handler_missing", format!("failed to read the handler {}", binary.display()))
            .because(&e)
    })?;
    let program = Program::read(&bytes);
    program.and_then(|program| program.check(architecture.name()).map(|()| program)).map_err(|unfit| {
        let error = CliError::failed("handler_unfit", format!("the handler {handler} would not start on Lambda"))
            .because(&unfit);
        match unfit {
            glibc::Unfit::TooNew { .. } => error.help(format!(
                "this machine's C library is newer than Lambda's: build with zig instead, which chatctl does by itself \
                 once it is there ({INSTALL_ZIGBUILD})"
            )),
            _ => error.help("`chatctl doctor` says what this machine can build for"),
        }
    })
}

/// What this machine has.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    os: &'static str,
    architecture: &'static str,
    pub(crate) has_zigbuild: bool,
    pub(crate) has_zig: bool,
    /// Targets whose standard library is installed.
    pub(crate) targets: Vec<String>,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: std::env::consts::OS,
            architecture,
            has_zigbuild: on_path("cargo-zigbuild").is_some(),
            has_zig: zig().is_some(),
            targets: [Architecture::Arm64, Architecture::X86]
                .into_iter()
                .map(target)
                .filter(|target| has_standard_library(target))
                .map(str::to_owned)
                .collect(),
        }
    }

    fn builds_for(&self, architecture: &str) -> bool {
        self.os == "linux" && self.architecture == architecture
    }

    fn name(&self) -> String {
        format!("{} {}", self.architecture, self.os)
    }
}

/// The version of zig, found as cargo-zigbuild finds it: named, on the path, or as the package `ziglang` of Python.
pub(crate) fn zig() -> Option<String> {
    let named = env::read(env::ZIG).and_then(|zig| output(&zig, &["version"]));
    named.or_else(|| output("zig", &["version"])).or_else(|| {
        ["python3", "python"].iter().find_map(|python| output(python, &["-m", "ziglang", "version"]))
    })
}

/// Whether rustc can build for a target: asked of itself, since rustup is only one way to have it.
fn has_standard_library(target: &str) -> bool {
    let library = output("rustc", &["--print", "target-libdir", "--target", target]);
    library.is_some_and(|library| Path::new(&library).is_dir())
}

/// What a program prints, if it is there and succeeds.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let done = Command::new(program).args(args).stdin(std::process::Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(os: &'static str, architecture: &'static str, zig: bool, targets: &[&str]) -> Machine {
        Machine {
            os,
            architecture,
            has_zigbuild: zig,
            has_zig: zig,
            targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        }
    }

    const ARM: &str = "aarch64-unknown-linux-gnu";
    const X86: &str = "x86_64-unknown-linux-gnu";

    #[test]
    fn zig_builds_wherever_it_is_there_and_cargo_only_for_its_own_machine() {
        let chosen = |architecture, machine: &Machine| Toolchain::for_lambda(architecture, machine).unwrap();
        let with_zig = machine("macos", "arm64", true, &[ARM, X86]);
        assert_eq!(chosen(Architecture::Arm64, &with_zig), Toolchain::Zigbuild { target: ARM });
        assert_eq!(chosen(Architecture::X86, &with_zig), Toolchain::Zigbuild { target: X86 });
        assert_eq!(chosen(Architecture::X86, &machine("linux", "x86_64", false, &[X86])), Toolchain::Cargo);
        // Zig even there: its programs do not depend on this machine's C library.
        let both = machine("linux", "x86_64", true, &[X86]);
        assert_eq!(chosen(Architecture::X86, &both), Toolchain::Zigbuild { target: X86 });
    }

    #[test]
    fn what_is_missing_is_said_step_by_step() {
        let help = |machine: &Machine| {
            Toolchain::for_lambda(Architecture::Arm64, machine).unwrap_err().help.unwrap()
        };
        let nothing = help(&machine("linux", "x86_64", false, &[X86]));
        assert!(
            nothing.contains("cargo-zigbuild") && nothing.contains(&format!("rustup target add {ARM}")),
            "{nothing}"
        );
        assert_eq!(help(&machine("linux", "x86_64", true, &[X86])), format!("rustup target add {ARM}"));
    }

    #[test]
    fn zig_links_against_the_c_library_of_lambda() {
        let args = Toolchain::Zigbuild { target: ARM }.args();
        assert_eq!(args, ["zigbuild", "--target", "aarch64-unknown-linux-gnu.2.34"]);
    }
}
