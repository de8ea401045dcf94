//! Says when the handlers' sources or the settings have changed, once per burst of writes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use crate::error::{CliError, Result};
use crate::project::Project;

/// Editors write a file in several steps, and a checkout writes many: a burst is over after this much silence.
const QUIET: Duration = Duration::from_millis(60);
/// A burst that does not end is taken as it is.
const LONGEST_BURST: Duration = Duration::from_secs(2);

/// What a burst touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The handlers have to be built again.
    pub(crate) sources: bool,
    /// The stack may be another.
    pub(crate) settings: bool,
}

/// Watches as long as it lives.
pub(crate) struct Watch {
    _watcher: RecommendedWatcher,
    events: UnboundedReceiver<Changes>,
}

impl Watch {
    pub(crate) fn start(project: &Project) -> Result<Self> {
        let failed = |e: notify::Error| {
            CliError::failed("cannot_watch", "failed to watch the sources for changes")
                .because(&e)
                .help("on Linux a low limit is the usual reason: sysctl fs.inotify.max_user_watches")
        };
        let sources = project.sources()?.to_owned();
        let settings = project.settings.clone();
        let (send, events) = unbounded_channel();
        let filter = Filter { sources: sources.clone(), settings: settings.clone() };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let changes = match event {
                Ok(event) => filter.changes(&event),
                // Events were lost, so anything may have changed.
                Err(_) => Changes { sources: true, settings: true },
            };
            if changes != Changes::default() {
                // The receiver goes away only with the watcher itself.
                let _ = send.send(changes);
            }
        })
        .map_err(failed)?;
        watcher.watch(&sources.join("functions"), RecursiveMode::Recursive).map_err(failed)?;
        // Directories instead of files: editors replace a file by renaming another over it.
        watcher.watch(&sources, RecursiveMode::NonRecursive).map_err(failed)?;
        if let Some(folder) = settings.parent().filter(|folder| *folder != sources) {
            watcher.watch(folder, RecursiveMode::NonRecursive).map_err(failed)?;
        }
        Ok(Self { _watcher: watcher, events })
    }

    /// Waits for the next burst to end.
    pub(crate) async fn changed(&mut self) -> Changes {
        let Some(mut all) = self.events.recv().await else { return std::future::pending().await };
        let latest = Instant::now() + LONGEST_BURST;
        while let Ok(Some(more)) = timeout_at((Instant::now() + QUIET).min(latest), self.events.recv()).await
        {
            all.sources |= more.sources;
            all.settings |= more.settings;
        }
        all
    }
}

struct Filter {
    sources: PathBuf,
    settings: PathBuf,
}

impl Filter {
    fn changes(&self, event: &notify::Event) -> Changes {
        let writes = match event.kind {
            EventKind::Create(_) | EventKind::Remove(_) => true,
            EventKind::Modify(kind) => !matches!(kind, ModifyKind::Metadata(_)),
            EventKind::Any | EventKind::Other => event.need_rescan(),
            EventKind::Access(_) => false,
        };
        let mut changes = Changes::default();
        if writes {
            for path in &event.paths {
                changes.sources |= self.is_source(path);
                changes.settings |= *path == self.settings;
            }
        }
        changes
    }

    fn is_source(&self, path: &Path) -> bool {
        let Ok(inside) = path.strip_prefix(&self.sources) else { return false };
        if inside == Path::new("Cargo.lock") || inside == Path::new("Cargo.toml") {
            return true;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // What editors leave beside the file while it is open.
        let scratch =
            name.starts_with('.') || name.starts_with('#') || name.ends_with('~') || name.ends_with(".tmp");
        inside.starts_with("functions") && !scratch && name != "4913"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        Filter { sources: PathBuf::from("/p"), settings: PathBuf::from("/p/stacks/chat.yaml") }
    }

    #[test]
    fn only_what_a_build_or_the_stack_reads_counts() {
        for (path, sources, settings) in [
            ("/p/functions/src/lib.rs", true, false),
            ("/p/functions/Cargo.toml", true, false),
            ("/p/Cargo.lock", true, false),
            ("/p/stacks/chat.yaml", false, true),
            ("/p/functions/src/.lib.rs.swp", false, false),
            ("/p/functions/src/4913", false, false),
            ("/p/functions/src/lib.rs~", false, false),
            ("/p/stacks/src/chat.rs", false, false),
            ("/p/README.md", false, false),
            ("/elsewhere/functions/src/lib.rs", false, false),
        ] {
            let event =
                notify::Event::new(EventKind::Create(notify::event::CreateKind::File)).add_path(path.into());
            assert_eq!(filter().changes(&event), Changes { sources, settings }, "{path}");
        }
    }

    #[test]
    fn reading_a_source_is_no_change() {
        let event = notify::Event::new(EventKind::Access(notify::event::AccessKind::Read))
            .add_path("/p/functions/src/lib.rs".into());
        assert_eq!(filter().changes(&event), Changes::default());
    }

    #[tokio::test]
    async fn a_burst_of_writes_is_one_change() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("functions/src")).unwrap();
        std::fs::create_dir_all(root.join("stacks")).unwrap();
        std::fs::write(root.join("functions/Cargo.toml"), "").unwrap();
        std::fs::write(root.join("stacks/chat.yaml"), "").unwrap();
        let project = Project::find(Some(&root.join("stacks/chat.yaml"))).unwrap();
        let mut watch = Watch::start(&project).unwrap();

        for n in 0..20 {
            std::fs::write(root.join("functions/src/lib.rs"), format!("// {n}")).unwrap();
        }
        assert_eq!(watch.changed().await, Changes { sources: true, settings: false });

        std::fs::write(root.join("stacks/chat.yaml"), "app: chat").unwrap();
        // Had the first burst been two changes, this would be the second of them.
        assert_eq!(watch.changed().await, Changes { sources: false, settings: true });
    }
}
