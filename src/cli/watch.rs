//! Notices that the pipeline file, or a key or certificate file that it names, has other content.
//!
//! Stands beside `run`. Directories are watched rather than files: an editor renames a new file over the old one, and
//! Kubernetes swaps a symbolic link (`..data`) to a directory, so that the file that is watched would be another one
//! afterwards. Whatever happens there, what counts is whether the content changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Time without a further event after which the files are looked at: what is written in several steps counts once.
const QUIET: Duration = Duration::from_millis(500);

/// Longest time from the first event to a look, where events never cease.
const LONGEST: Duration = Duration::from_secs(5);

/// Symbolic links that are followed from one file at most.
const MAX_LINKS: usize = 40;

/// Watches some files for other content; stops when it is dropped.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    events: mpsc::Receiver<()>,
    files: Vec<PathBuf>,
    directories: BTreeSet<PathBuf>,
    /// What the files held when they were looked at last.
    content: Content,
    /// When to look, and when at the latest.
    due: Option<(Instant, Instant)>,
}

/// Digests of files; none for one that cannot be read.
type Content = Vec<Option<Vec<u8>>>;

impl Watch {
    /// Begins to watch files, taking their present content for known.
    ///
    /// # Errors
    /// When the system has no watch left.
    pub(super) fn start(files: Vec<PathBuf>) -> Result<Self, notify::Error> {
        // One note is as good as many.
        let (notes, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening and reading is what this gateway does itself.
            let matters = event.is_ok_and(|event| match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
                EventKind::Access(_) => false,
                _ => true,
            });
            if matters {
                let _ = notes.try_send(());
            }
        })?;
        let mut watch = Self {
            watcher,
            events,
            content: Vec::new(),
            files: Vec::new(),
            directories: BTreeSet::new(),
            due: None,
        };
        watch.set_files(files);
        Ok(watch)
    }

    /// Watches these files from now on; what those hold that were not watched before is taken for known.
    pub(super) fn set_files(&mut self, files: Vec<PathBuf>) {
        // What changed meanwhile in a file that was watched before is not known yet: it still counts.
        let known = |file: &PathBuf| {
            let at = self.files.iter().position(|known| known == file)?;
            self.content.get(at).cloned()
        };
        self.content = files
            .iter()
            .map(|file| known(file).unwrap_or_else(|| digest(file)))
            .collect();
        self.files = files;
        self.follow();
    }

    /// Watches the directories that lead to the files now, which a swapped link changes.
    fn follow(&mut self) {
        let wanted: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| ways(file)).collect();
        for gone in self.directories.difference(&wanted) {
            // It may have been removed.
            let _ = self.watcher.unwatch(gone);
        }
        let mut watched = BTreeSet::new();
        for directory in wanted {
            let known = self.directories.contains(&directory) && directory.exists();
            let watching = if known {
                Ok(())
            } else {
                self.watcher.watch(&directory, RecursiveMode::NonRecursive)
            };
            match watching {
                Ok(()) => {
                    watched.insert(directory);
                }
                Err(error) => tracing::warn!(
                    event = "watch_failed",
                    directory = %directory.display(),
                    %error,
                    "changes of files in this directory are not noticed"
                ),
            }
        }
        self.directories = watched;
    }

    /// Waits until a file has other content than it had; may be cancelled at any time.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some((due, latest)) = self.due else {
                if self.events.recv().await.is_none() {
                    // The watcher lives as long as this.
                    std::future::pending::<()>().await;
                }
                let now = Instant::now();
                self.due = Some((now + QUIET, now + LONGEST));
                continue;
            };
            tokio::select! {
                biased;
                Some(()) = self.events.recv() => {
                    self.due = Some(((Instant::now() + QUIET).min(latest), latest));
                    if Instant::now() < latest {
                        continue;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            let files = self.files.clone();
            // A disk that hangs must not hold up a stop.
            let Ok(content) = tokio::task::spawn_blocking(move || content(&files)).await else {
                continue;
            };
            self.due = None;
            self.follow();
            if content != self.content {
                self.content = content;
                return;
            }
        }
    }
}

fn content(files: &[PathBuf]) -> Content {
    files.iter().map(|file| digest(file)).collect()
}

fn digest(file: &Path) -> Option<Vec<u8>> {
    // Who opens a named pipe waits until someone writes it.
    if !file.is_file() {
        return None;
    }
    let bytes = std::fs::read(file).ok()?;
    let digest = digest::digest(&digest::SHA256, &bytes);
    Some(digest.as_ref().to_vec())
}

/// The directories in which something changes when a path leads to another file than before.
fn ways(file: &Path) -> BTreeSet<PathBuf> {
    let mut ways = BTreeSet::new();
    let Ok(mut path) = std::path::absolute(file) else {
        return ways;
    };
    for _ in 0..MAX_LINKS {
        // Each part of the path may be a link, and so may what that leads to.
        for part in path.ancestors() {
            if part.is_symlink()
                && let Some(parent) = part.parent().and_then(|parent| parent.canonicalize().ok())
            {
                ways.insert(parent);
            }
        }
        let Some(parent) = path.parent() else { break };
        if let Ok(parent) = parent.canonicalize() {
            ways.insert(parent);
        }
        let Ok(link) = path.read_link() else { break };
        path = parent.join(link);
    }
    ways
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    async fn notices(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(30), watch.changed())
            .await
            .unwrap();
    }

    async fn stays_silent(watch: &mut Watch) {
        let changed = tokio::time::timeout(QUIET * 4, watch.changed()).await;
        assert!(changed.is_err(), "nothing changed");
    }

    #[tokio::test]
    async fn only_other_content_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::start(vec![file.clone()]).unwrap();
        fs::write(&file, "2").unwrap();
        notices(&mut watch).await;
        fs::write(&file, "2").unwrap();
        fs::write(folder.path().join("other"), "3").unwrap();
        stays_silent(&mut watch).await;
        fs::write(folder.path().join("b.yaml"), "4").unwrap();
        fs::rename(folder.path().join("b.yaml"), &file).unwrap();
        notices(&mut watch).await;
        fs::remove_file(&file).unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_change_before_other_files_are_watched_too_still_counts() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.yaml"), "1").unwrap();
        fs::write(at("key.pem"), "1").unwrap();
        let mut watch = Watch::start(vec![at("a.yaml")]).unwrap();
        fs::write(at("a.yaml"), "2").unwrap();
        watch.set_files(vec![at("a.yaml"), at("key.pem")]);
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn swapped_directories_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let make = |name: &str, text: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("p.yaml"), text).unwrap();
        };
        let swap = |name: &str| {
            symlink(name, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        make("..1", "1");
        swap("..1");
        symlink("..data/p.yaml", at("p.yaml")).unwrap();
        let mut watch = Watch::start(vec![at("p.yaml")]).unwrap();
        for n in 2..5 {
            make(&format!("..{n}"), &n.to_string());
            swap(&format!("..{n}"));
            fs::remove_dir_all(at(&format!("..{}", n - 1))).unwrap();
            notices(&mut watch).await;
        }
        fs::write(at("..4").join("p.yaml"), "written in place").unwrap();
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_link_to_elsewhere_is_watched_there() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, file) = (here.path().join("p.yaml"), there.path().join("q.yaml"));
        fs::write(&file, "1").unwrap();
        symlink(&file, &link).unwrap();
        let mut watch = Watch::start(vec![link]).unwrap();
        fs::write(&file, "2").unwrap();
        notices(&mut watch).await;
    }
}
