//! Erases dead letters from the file, and from those that it was renamed to.
//!
//! A letter is written over in its place by one of the same length that holds nothing: whole lines are never touched
//! again by the gateway, which only appends. So nothing that it writes meanwhile can be lost, as it could by replacing
//! the file, and a file that is renamed meanwhile stays the same file.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use futures_util::future::{BoxFuture, FutureExt as _};
use serde::Deserialize;
use serde_json::json;

use super::stores::Search;
use super::{Finding, Person, Task, Verdict};

/// Letters after which it is told how far the search is.
const TELL_EVERY: u64 = 10_000;

/// The file of dead letters.
pub(super) struct LetterFileSearch {
    path: PathBuf,
    read: Read,
    finding: Finding,
}

/// How far each file was read, by its number on its device.
type Read = HashMap<(u64, u64), Place>;

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Where the first line begins that was not read.
    next: u64,
    /// The file's length when a line without an end began there.
    torn_at: Option<u64>,
}

#[derive(Deserialize)]
struct Line {
    raw: String,
    #[serde(default)]
    reason: String,
    sink: Option<String>,
    failed_at: Option<u64>,
}

impl LetterFileSearch {
    pub(super) fn new(path: &str) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let folder = path.parent().unwrap_or(Path::new("/"));
        Self {
            finding: Finding::of("dead_letter_file", name, folder.display().to_string()),
            read: Read::new(),
            path,
        }
    }
}

impl Search for LetterFileSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let mut work = Work {
                person: task.person.clone(),
                dry_run: task.dry_run,
                late: task.late,
                read: std::mem::take(&mut self.read),
                finding: self.finding.clone(),
            };
            let path = self.path.clone();
            let (tell, mut told) = tokio::sync::mpsc::channel(1);
            let working = tokio::task::spawn_blocking(move || {
                let searched = work.search_all(&path, &tell);
                (work, searched)
            });
            while let Some(finding) = told.recv().await {
                (task.tell)(&finding);
            }
            let (work, searched) = working.await.map_err(|error| error.to_string())?;
            self.read = work.read;
            self.finding = work.finding;
            searched
        }
        .boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }
}

struct Work {
    person: Person,
    dry_run: bool,
    late: bool,
    read: Read,
    finding: Finding,
}

impl Work {
    fn search_all(
        &mut self,
        path: &Path,
        tell: &tokio::sync::mpsc::Sender<Finding>,
    ) -> Result<(), String> {
        // All are opened before one is read, so that none slips away by being renamed.
        let mut seen = HashSet::new();
        let (files, mut searched) = files(path, !self.dry_run);
        for (path, id, file) in files {
            if seen.insert(id) {
                self.finding.exists = true;
                let this = self.search(id, &file, tell);
                // The others are searched all the same.
                searched = searched.and(this.map_err(|error| words(&path, &error)));
            }
        }
        searched
    }

    fn search(
        &mut self,
        id: (u64, u64),
        file: &File,
        tell: &tokio::sync::mpsc::Sender<Finding>,
    ) -> std::io::Result<()> {
        let mut place = self.read.get(&id).copied().unwrap_or_default();
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(place.next))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            // What comes after it began is for the next time, so that there is an end.
            if place.next >= length || reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            // A line without an end may be one that is being written, unless nobody went on with it. To count it, that
            // does not matter.
            let whole = line.last() == Some(&b'\n');
            let end = place.next + line.len() as u64;
            let stayed = place.torn_at == Some(end);
            if !whole && !stayed && !self.dry_run {
                place.torn_at = Some(end);
                break;
            }
            let late = self.late && !stayed;
            self.judge(file, place.next, line.trim_ascii_end(), late)?;
            place = Place {
                next: end,
                torn_at: None,
            };
            if self.finding.examined.is_multiple_of(TELL_EVERY) {
                // The search goes on where nobody listens.
                let _ = tell.try_send(self.finding.clone());
            }
        }
        self.read.insert(id, place);
        if self.finding.erased > 0 {
            file.sync_data()?;
        }
        Ok(())
    }

    fn judge(&mut self, file: &File, at: u64, line: &[u8], late: bool) -> std::io::Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        let parsed = serde_json::from_slice::<Line>(line).ok();
        let verdict = match &parsed {
            // What was erased before.
            Some(line) if line.raw.is_empty() && line.reason == ERASED => Verdict::Others,
            Some(line) => self.person.judge(line.raw.as_bytes()),
            // A torn line holds its event as JSON within JSON.
            None => {
                let text = String::from_utf8_lossy(line).replace("\\\"", "\"");
                match self.person.judge(text.as_bytes()) {
                    // It was left by someone who was interrupted here.
                    Verdict::Unreadable if line.starts_with(BEGUN) => {
                        Verdict::Theirs { shared: false }
                    }
                    verdict => verdict,
                }
            }
        };
        if self.finding.judge(verdict, late) && !self.dry_run {
            file.write_all_at(&blank(line.len(), parsed.as_ref()), at)?;
            self.finding.erased += 1;
        }
        Ok(())
    }
}

/// The reason of a letter that was erased.
const ERASED: &str = "erased";

/// What its line begins with.
const BEGUN: &[u8] = br#"{"reason":"erased","#;

/// What is written in the place of a line: a letter that holds nothing, as long as the line.
fn blank(length: usize, line: Option<&Line>) -> Vec<u8> {
    let empty = json!({
        "reason": ERASED,
        "raw": "",
        "event_id": null,
        "sink": line.and_then(|line| line.sink.as_ref()),
        "failed_at": line.and_then(|line| line.failed_at),
    });
    let mut text = empty.to_string().into_bytes();
    if text.len() > length {
        text.clear();
    }
    text.resize(length, b' ');
    text
}

/// A file's path, its number on its device, and the file.
type Opened = (PathBuf, (u64, u64), File);

/// The file and those that it was renamed to, opened; and the first that cannot be.
fn files(path: &Path, write: bool) -> (Vec<Opened>, Result<(), String>) {
    let (paths, mut result) = match paths(path) {
        Ok(paths) => (paths, Ok(())),
        Err(error) => (vec![path.to_owned()], Err(words(path, &error))),
    };
    let mut files = Vec::new();
    for path in paths {
        match open(&path, write) {
            Ok(Some((id, file))) => files.push((path, id, file)),
            Ok(None) => {}
            Err(error) => result = result.and(Err(words(&path, &error))),
        }
    }
    (files, result)
}

fn paths(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut paths = vec![path.to_owned()];
    let listed = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(paths),
        listed => listed?,
    };
    for entry in listed {
        let entry = entry?.file_name();
        let number = entry.as_encoded_bytes().strip_prefix(name);
        let number = number.and_then(|rest| rest.strip_prefix(b"."));
        if number.is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit)) {
            paths.push(folder.join(entry));
        }
    }
    Ok(paths)
}

/// Opens what keeps letters. A pipe or a device keeps nothing, and whoever opens a pipe may wait for ever.
fn open(path: &Path, write: bool) -> std::io::Result<Option<((u64, u64), File)>> {
    let opened = path.metadata().and_then(|metadata| {
        if !metadata.is_file() && !metadata.is_dir() {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).write(write).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(Some(((metadata.dev(), metadata.ino()), file)))
    });
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened,
    }
}

fn words(path: &Path, error: &std::io::Error) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{name} cannot be read or written: {error}")
}
