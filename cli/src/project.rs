//! Where things are: the settings file, the project around it, the handlers' sources, and the state directory.

use std::env as process_env;
use std::path::{Path, PathBuf};

use crate::env;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;

/// The settings file below the project's root.
pub(crate) const SETTINGS: &str = "stacks/chat.yaml";

/// The file by which the handlers' sources are recognised.
const HANDLERS: &str = "functions/Cargo.toml";

/// A project on disk.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// Directory that the settings belong to.
    pub(crate) root: PathBuf,
    /// The settings file.
    pub(crate) settings: PathBuf,
    /// Directory of the Cargo workspace with `functions/`, if the sources are at hand.
    sources: Option<PathBuf>,
    state: PathBuf,
}

impl Project {
    /// Finds the settings: the given file, else `stacks/chat.yaml` in the working directory or one above it.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self> {
        let here = process_env::current_dir().map_err(|e| {
            CliError::failed("no_directory", "failed to read the working directory").because(&e)
        })?;
        Self::find_from(&here, given, env::read(env::STATE_DIR).map(PathBuf::from))
    }

    fn find_from(here: &Path, given: Option<&Path>, state: Option<PathBuf>) -> Result<Self> {
        let settings = match given {
            // A relative path that is not below the working directory may be below one of its parents.
            Some(path) => above(here, path).ok_or_else(|| {
                CliError::new(ExitCode::Settings, "settings_not_found", format!("found no settings at {}", path.display()))
                    .help("check the path given with --settings")
            })?,
            None => above(here, Path::new(SETTINGS)).ok_or_else(|| {
                CliError::new(
                    ExitCode::Settings,
                    "project_not_found",
                    format!("found no {SETTINGS} in {} or above it", here.display()),
                )
                .help("go to a clone of the project, or name its settings with --settings PATH/TO/stacks/chat.yaml")
            })?,
        };
        let folder = settings.parent().unwrap_or(here);
        let sources = holding(folder, HANDLERS).or_else(|| holding(here, HANDLERS));
        let root = match holding(folder, HANDLERS) {
            Some(root) => root,
            None if folder.file_name().is_some_and(|name| name == "stacks") => {
                folder.parent().unwrap_or(folder).to_owned()
            }
            None => folder.to_owned(),
        };
        let state = state.map_or_else(|| root.join(".chatctl"), |dir| here.join(dir));
        Ok(Self { root, settings, sources, state })
    }

    /// The settings file as a person in the working directory would write it, which is how errors name it.
    pub(crate) fn settings_as_typed(&self) -> PathBuf {
        PathBuf::from(Self::short(&self.settings))
    }

    /// The Cargo workspace that builds the handlers.
    pub(crate) fn sources(&self) -> Result<&Path> {
        self.sources.as_deref().ok_or_else(|| {
            CliError::failed(
                "sources_not_found",
                format!("found no {HANDLERS} beside {}", self.settings.display()),
            )
            .help("the handlers are built from their sources: run this in a clone of the project")
        })
    }

    /// `.chatctl/`, made if it is missing.
    pub(crate) fn state_dir(&self) -> Result<&Path> {
        std::fs::create_dir_all(&self.state).map_err(|e| self.unwritable(&e))?;
        Ok(&self.state)
    }

    /// A file or directory in `.chatctl/`, whether it exists or not.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The error for a state directory that cannot be written, and the way on.
    pub(crate) fn unwritable(&self, cause: &std::io::Error) -> CliError {
        CliError::failed("state_not_writable", format!("failed to write to {}", self.state.display()))
            .because(cause)
            .help(format!("make it writable, or set {} to a directory that is", env::STATE_DIR))
    }

    /// A path as a person in the working directory would write it.
    pub(crate) fn short(path: &Path) -> String {
        process_env::current_dir()
            .ok()
            .and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned))
            .filter(|short| !short.as_os_str().is_empty())
            .unwrap_or_else(|| path.to_owned())
            .display()
            .to_string()
    }
}

/// The file `relative` in `here` or the nearest directory above it.
fn above(here: &Path, relative: &Path) -> Option<PathBuf> {
    here.ancestors().map(|dir| dir.join(relative)).find(|path| path.is_file())
}

/// The nearest directory at or above `from` that holds the file `name`.
fn holding(from: &Path, name: &str) -> Option<PathBuf> {
    from.ancestors().find(|dir| dir.join(name).is_file()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    #[test]
    fn settings_are_found_from_any_directory_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join(SETTINGS));
        write(dir.path().join(HANDLERS));
        let deep = dir.path().join("web/icons");
        std::fs::create_dir_all(&deep).unwrap();

        let project = Project::find_from(&deep, None, None).unwrap();

        assert_eq!(project.settings, dir.path().join(SETTINGS));
        assert_eq!(project.root, dir.path());
        assert_eq!(project.state("local.json"), dir.path().join(".chatctl/local.json"));
        assert_eq!(project.sources().unwrap(), dir.path());
    }

    #[test]
    fn settings_elsewhere_keep_their_state_beside_them_and_build_from_the_working_directory() {
        let clone = tempfile::tempdir().unwrap();
        write(clone.path().join(HANDLERS));
        let elsewhere = tempfile::tempdir().unwrap();
        let settings = elsewhere.path().join("other.yaml");
        write(settings.clone());

        let project = Project::find_from(clone.path(), Some(&settings), None).unwrap();

        assert_eq!(project.root, elsewhere.path());
        assert_eq!(project.sources().unwrap(), clone.path());
    }

    #[test]
    fn a_missing_project_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Project::find_from(dir.path(), None, None).unwrap_err();
        assert_eq!(error.exit, ExitCode::Settings);
        assert!(error.help.unwrap().contains("--settings"));
    }
}
