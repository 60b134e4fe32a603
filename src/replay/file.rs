//! The dead letters of the file, for the list of them.
//!
//! Stands beside `sinks::dead_letter_file`, which writes them. They are only listed: a file has no confirmed way
//! back, and what reads it can deliver it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use futures_util::future::{BoxFuture, FutureExt as _};
use serde::Deserialize;

use super::{DeadLetterStore, ReplayError, StoredLetter};

/// The name of the file among the stores of dead letters.
const NAME: &str = "file";

/// The file of dead letters and those it was renamed to.
#[derive(Debug)]
pub struct FileDeadLetters {
    path: PathBuf,
    max_files: u32,
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
        }
    }
}

impl DeadLetterStore for FileDeadLetters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredLetter>, ReplayError>> {
        let (path, max_files) = (self.path.clone(), self.max_files);
        async move {
            let read = tokio::task::spawn_blocking(move || oldest(&path, max_files, limit)).await;
            read.map_err(std::io::Error::other)
                .and_then(|letters| letters)
                .map_err(|error| {
                    failed(format!(
                        "the dead-letter file cannot be read: {}",
                        error.kind()
                    ))
                })
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

/// Reads the oldest letters; lines that are none, such as one that is being written, are passed over.
fn oldest(path: &Path, max_files: u32, limit: usize) -> std::io::Result<Vec<StoredLetter>> {
    let mut letters = Vec::new();
    for number in (0..=max_files).rev() {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
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
