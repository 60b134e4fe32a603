//! The dead letters of the file, for the list of them.
//!
//! Stands beside `sinks::dead_letter_file`, which writes them. They are only listed: a file has no confirmed way
//! back, and what reads it can deliver it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use serde::Deserialize;

use super::{DeadLetterStore, ReplayError, StoredLetter};

/// The name of the file among the stores of dead letters.
const NAME: &str = "file";

/// Bytes that are read at once while lines are counted.
const READ_AT_ONCE: usize = 256 * 1024;

/// The file of dead letters and those it was renamed to.
#[derive(Debug)]
pub struct FileDeadLetters {
    path: PathBuf,
    max_files: u32,
    counted: Arc<Mutex<Counted>>,
}

/// The lines of each file as far as they were counted, by the file's number on its device: a file that is renamed is
/// still known, and only what was added is read.
type Counted = HashMap<(u64, u64), Lines>;

#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    bytes: u64,
    count: u64,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Line {
    reason: String,
    raw: String,
    event_id: Option<String>,
    sink: Option<String>,
    failed_at: Option<u64>,
}

impl FileDeadLetters {
    /// The dead letters in `path`, `path.1` and so on.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, max_files: u32) -> Self {
        Self {
            path: path.into(),
            max_files,
            counted: Arc::default(),
        }
    }
}

impl DeadLetterStore for FileDeadLetters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> BoxFuture<'_, Result<u64, ReplayError>> {
        let (path, max_files) = (self.path.clone(), self.max_files);
        let counted = Arc::clone(&self.counted);
        async move {
            let counting = tokio::task::spawn_blocking(move || count(&path, max_files, &counted));
            let counted = counting.await.map_err(std::io::Error::other);
            counted
                .and_then(|count| count)
                .map_err(|error| unreadable(&error))
        }
        .boxed()
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredLetter>, ReplayError>> {
        let (path, max_files) = (self.path.clone(), self.max_files);
        async move {
            let read = tokio::task::spawn_blocking(move || oldest(&path, max_files, limit)).await;
            read.map_err(std::io::Error::other)
                .and_then(|letters| letters)
                .map_err(|error| unreadable(&error))
        }
        .boxed()
    }

    fn replay(&self, _limit: usize) -> BoxFuture<'_, Result<usize, ReplayError>> {
        async { Err(failed("the dead-letter file cannot be replayed".to_owned())) }.boxed()
    }
}

fn failed(reason: String) -> ReplayError {
    ReplayError {
        replayed: 0,
        reason,
    }
}

fn unreadable(error: &std::io::Error) -> ReplayError {
    failed(format!(
        "the dead-letter file cannot be read: {}",
        error.kind()
    ))
}

/// The name of the file, or of the one that it was renamed to so many times ago.
fn name(path: &Path, number: u32) -> OsString {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name
}

/// Counts the whole lines of all files, reading only what was added since the last time.
fn count(path: &Path, max_files: u32, counted: &Mutex<Counted>) -> std::io::Result<u64> {
    let mut counted = counted.lock();
    let mut now = Counted::new();
    for number in 0..=max_files {
        let mut file = match File::open(name(path, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let id = (metadata.dev(), metadata.ino());
        let known = counted.get(&id).copied();
        // A file that has become shorter is another one.
        let mut lines = known
            .filter(|l| l.bytes <= metadata.len())
            .unwrap_or_default();
        file.seek(SeekFrom::Start(lines.bytes))?;
        let mut reader = BufReader::with_capacity(READ_AT_ONCE, file);
        loop {
            let chunk = reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            lines.count += memchr::memchr_iter(b'\n', chunk).count() as u64;
            lines.bytes += chunk.len() as u64;
            let length = chunk.len();
            reader.consume(length);
        }
        now.insert(id, lines);
    }
    *counted = now;
    Ok(counted.values().map(|lines| lines.count).sum())
}

/// Reads the oldest letters; lines that are none, such as one that is being written, are passed over.
fn oldest(path: &Path, max_files: u32, limit: usize) -> std::io::Result<Vec<StoredLetter>> {
    let mut letters = Vec::new();
    for number in (0..=max_files).rev() {
        let name = name(path, number);
        let file = match File::open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let short = Path::new(&name).file_name().unwrap_or_default();
        for (line, number) in BufReader::new(file).split(b'\n').zip(1_u64..) {
            if letters.len() >= limit {
                return Ok(letters);
            }
            let Ok(line) = serde_json::from_slice::<Line>(&line?) else {
                continue;
            };
            letters.push(StoredLetter {
                store: NAME,
                id: Some(format!("{}:{number}", short.to_string_lossy())),
                event_id: line.event_id,
                sink: line.sink,
                reason: line.reason,
                failed_at: line.failed_at,
                raw: line.raw,
            });
        }
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> String {
        format!(
            "{{\"reason\":\"HTTP 400\",\"raw\":\"{{}}\",\"event_id\":null,\"sink\":\"webhook\",\"failed_at\":{number}}}\n"
        )
    }

    #[tokio::test]
    async fn the_oldest_come_first_across_renamed_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let store = FileDeadLetters::new(&path, 3);
        assert_eq!(store.list(10).await, Ok(Vec::new()), "no file yet");
        std::fs::write(&path, line(5) + "{\"torn").unwrap();
        std::fs::write(path.with_extension("jsonl.1"), line(3) + "\n\n" + &line(4)).unwrap();
        std::fs::write(path.with_extension("jsonl.2"), line(1) + &line(2)).unwrap();
        let letters = store.list(10).await.unwrap();
        let times: Vec<_> = letters
            .iter()
            .filter_map(|letter| letter.failed_at)
            .collect();
        assert_eq!(times, [1, 2, 3, 4, 5]);
        assert_eq!(letters[3].id.as_deref(), Some("letters.jsonl.1:4"));
        assert_eq!(letters[3].sink.as_deref(), Some("webhook"));
        assert_eq!(store.list(3).await.unwrap().len(), 3);
        assert_eq!(store.list(0).await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn letters_are_counted_over_renames_and_as_they_are_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let store = FileDeadLetters::new(&path, 2);
        assert_eq!(store.depth().await, Ok(0), "no file yet");
        std::fs::write(&path, line(1) + &line(2)).unwrap();
        assert_eq!(store.depth().await, Ok(2));
        let mut file = File::options().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, line(3).as_bytes()).unwrap();
        assert_eq!(store.depth().await, Ok(3));
        std::fs::rename(&path, path.with_extension("jsonl.1")).unwrap();
        std::fs::write(&path, line(4)).unwrap();
        assert_eq!(store.depth().await, Ok(4));
        std::fs::remove_file(path.with_extension("jsonl.1")).unwrap();
        assert_eq!(store.depth().await, Ok(1));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_without_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let error = FileDeadLetters::new(folder.path(), 1)
            .list(1)
            .await
            .unwrap_err();
        assert!(
            !error.reason.contains(folder.path().to_str().unwrap()),
            "{error}"
        );
    }
}
