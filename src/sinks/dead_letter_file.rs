//! Keeps dead letters in a file of JSON lines, rotated by size.
//!
//! Stands behind the deliveries where no broker keeps dead letters. One thread writes, so that the runtime never
//! waits for the disk; letters that queue up meanwhile are written at once. Each line is
//! `{"reason","raw","event_id","sink","failed_at"}`, with `raw` as a string and `failed_at` in unix seconds. A
//! kept letter is in the kernel's hands: it survives the gateway's end, not necessarily the machine's.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::dead_letter::{DeadLetter, DeadLetterError, DeadLetters, StoreFuture};

/// Letters that wait for the thread at most; further ones wait before they queue.
const QUEUE: usize = 1024;

/// Settings of the dead-letter file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterFileConfig {
    /// The file; empty: dead letters are only counted and logged.
    pub path: String,
    /// Bytes after which the file is renamed to `<path>.1` and a new one begun.
    #[schemars(range(min = 1024, max = 1_099_511_627_776_u64))]
    pub max_bytes: u64,
    /// Renamed files kept; the oldest beyond that is deleted.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_files: u32,
}

impl Default for DeadLetterFileConfig {
    fn default() -> Self {
        Self {
            path: "wsgw-dead-letters.jsonl".into(),
            max_bytes: 67_108_864,
            max_files: 5,
        }
    }
}

/// Why the dead-letter file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("dead-letter file {path}: {error}")]
pub struct DeadLetterFileError {
    path: String,
    #[source]
    error: std::io::Error,
}

struct Job {
    letter: DeadLetter,
    done: oneshot::Sender<Result<(), String>>,
}

/// A dead-letter target that appends to a file; its thread ends when it is dropped.
#[derive(Debug)]
pub struct DeadLetterFile {
    jobs: mpsc::Sender<Job>,
    limits: Arc<Limits>,
    place: PathBuf,
}

/// When the file is renamed, and how many renamed ones are kept; read before each write.
#[derive(Debug, Default)]
struct Limits {
    max_bytes: AtomicU64,
    max_files: AtomicU32,
}

impl Limits {
    fn set(&self, config: &DeadLetterFileConfig) {
        self.max_bytes.store(config.max_bytes, Ordering::Relaxed);
        self.max_files
            .store(config.max_files.max(1), Ordering::Relaxed);
    }
}

/// Where a path leads, however it is written.
fn place(path: &str) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path,
    }
}

impl DeadLetterFile {
    /// Opens the file, creates it (mode 0600) and its folder if they are missing, and starts the writing thread.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn start(config: &DeadLetterFileConfig) -> Result<Self, DeadLetterFileError> {
        let failed = |error| DeadLetterFileError {
            path: config.path.clone(),
            error,
        };
        let mut writer = Writer::new(config);
        writer.open().map_err(failed)?;
        let limits = Arc::clone(&writer.limits);
        let (jobs, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("wsgw-dead-letters".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(failed)?;
        let place = place(&config.path);
        Ok(Self {
            jobs,
            limits,
            place,
        })
    }

    /// Whether a path leads to this file, which must have one writer only.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.place == place(path)
    }

    /// Changes when the file is renamed and how many renamed ones are kept, from the next write on.
    pub fn set_limits(&self, config: &DeadLetterFileConfig) {
        self.limits.set(config);
    }

    async fn append(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        let gone = || DeadLetterError::Failed("the dead-letter file's thread is gone".to_owned());
        let (done, written) = oneshot::channel();
        let job = Job { letter, done };
        self.jobs.send(job).await.map_err(|_| gone())?;
        written
            .await
            .map_err(|_| gone())?
            .map_err(DeadLetterError::Failed)
    }
}

impl DeadLetters for DeadLetterFile {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        Box::pin(self.append(letter))
    }
}

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    reason: &'a str,
    raw: &'a str,
    event_id: Option<String>,
    sink: &'a str,
    failed_at: u64,
}

struct Writer {
    path: PathBuf,
    limits: Arc<Limits>,
    open: Option<Open>,
}

struct Open {
    file: File,
    size: u64,
    inode: u64,
}

impl Writer {
    fn new(config: &DeadLetterFileConfig) -> Self {
        let limits = Limits::default();
        limits.set(config);
        Self {
            path: PathBuf::from(&config.path),
            limits: Arc::new(limits),
            open: None,
        }
    }

    fn max_bytes(&self) -> u64 {
        self.limits.max_bytes.load(Ordering::Relaxed)
    }

    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut lines = Vec::new();
        let mut written = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            while let Some(Job { letter, done }) = next {
                let start = lines.len();
                write_line(&mut lines, &letter);
                let fits = self.size() + lines.len() as u64 <= self.max_bytes();
                if start > 0 && !fits {
                    // What fits belongs into the file that is full after it.
                    let last = lines.split_off(start);
                    self.write(&lines, &mut written);
                    lines = last;
                }
                written.push(done);
                next = queue.try_recv().ok();
            }
            self.write(&lines, &mut written);
            lines.clear();
        }
    }

    fn size(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.size)
    }

    fn write(&mut self, lines: &[u8], written: &mut Vec<oneshot::Sender<Result<(), String>>>) {
        let result = self
            .append(lines)
            .map_err(|error| format!("dead-letter file {}: {error}", self.path.display()));
        for done in written.drain(..) {
            // The dead letter may have been given up meanwhile.
            let _ = done.send(result.clone());
        }
    }

    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.size() > 0 && self.size() + lines.len() as u64 > self.max_bytes() {
            self.rotate();
        }
        self.reopen_if_replaced();
        if self.open.is_none() {
            self.open()?;
        }
        let Some(open) = &mut self.open else {
            return Err(std::io::Error::other("the file is not open"));
        };
        let result = open.file.write_all(lines);
        if result.is_ok() {
            open.size += lines.len() as u64;
        } else {
            // No half line may stay; opening again ends one that does.
            let _ = open.file.set_len(open.size);
            self.open = None;
        }
        result
    }

    /// Someone may have moved the file away: what is written to a deleted file is lost.
    fn reopen_if_replaced(&mut self) {
        let inode = std::fs::metadata(&self.path).map(|meta| meta.ino()).ok();
        if self
            .open
            .as_ref()
            .is_some_and(|open| Some(open.inode) != inode)
        {
            self.open = None;
        }
    }

    fn open(&mut self) -> std::io::Result<()> {
        if let Some(folder) = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        let meta = file.metadata()?;
        let mut size = meta.len();
        if size > 0 {
            // A crash may have left half a line.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        let inode = meta.ino();
        self.open = Some(Open { file, size, inode });
        Ok(())
    }

    /// Renames the files; one that cannot be renamed is written on, which is better than losing letters.
    fn rotate(&mut self) {
        let numbered = |number: u32| numbered(&self.path, number);
        let max_files = self.limits.max_files.load(Ordering::Relaxed);
        for number in (1..max_files).rev() {
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
        match std::fs::rename(&self.path, numbered(1)) {
            Ok(()) => self.open = None,
            Err(error) => warn!(
                event = "dead_letter_rotation_failed",
                path = %self.path.display(),
                error = %error,
                "the dead-letter file cannot be renamed and grows on"
            ),
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn write_line(lines: &mut Vec<u8>, letter: &DeadLetter) {
    let line = Line {
        reason: &letter.reason,
        raw: &String::from_utf8_lossy(&letter.raw),
        event_id: letter.event_id.map(|id| id.to_string()),
        sink: letter.sink,
        failed_at: letter.failed_at,
    };
    let written = serde_json::to_writer(&mut *lines, &line);
    debug_assert!(written.is_ok(), "strings and numbers always serialise");
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::os::unix::fs::PermissionsExt as _;
    use uuid::Uuid;

    fn config(path: &Path, max_bytes: u64, max_files: u32) -> DeadLetterFileConfig {
        DeadLetterFileConfig {
            path: path.to_str().unwrap().to_owned(),
            max_bytes,
            max_files,
        }
    }

    fn letter(number: u64) -> DeadLetter {
        DeadLetter {
            reason: "HTTP 400".into(),
            raw: Bytes::from(format!("{{\"seq\":{number}}}")),
            event_id: Some(Uuid::from_u128(u128::from(number))),
            sink: "webhook",
            failed_at: number,
        }
    }

    fn numbers(path: &Path) -> Vec<u64> {
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["failed_at"].as_u64().unwrap()
            })
            .collect()
    }

    #[tokio::test]
    async fn letters_are_private_json_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/letters.jsonl");
        let file = DeadLetterFile::start(&config(&path, 1 << 20, 2)).unwrap();
        file.store(letter(7)).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"reason\":\"HTTP 400\",\"raw\":\"{\\\"seq\\\":7}\",\
             \"event_id\":\"00000000-0000-0000-0000-000000000007\",\"sink\":\"webhook\",\"failed_at\":7}\n"
        );
    }

    #[tokio::test]
    async fn existing_files_are_appended_to_after_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        std::fs::write(&path, "{\"failed_at\":1}\n{\"torn").unwrap();
        let file = DeadLetterFile::start(&config(&path, 1 << 20, 2)).unwrap();
        file.store(letter(2)).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"failed_at\":1}\n{\"torn\n{\"reason\""));
    }

    #[tokio::test]
    async fn full_files_are_rotated_and_the_oldest_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let mut line = Vec::new();
        write_line(&mut line, &letter(1));
        let two_lines = line.len() as u64 * 2;
        let file = DeadLetterFile::start(&config(&path, two_lines, 2)).unwrap();
        for number in 1..=9 {
            file.store(letter(number)).await.unwrap();
        }
        assert_eq!(numbers(&path), [9]);
        assert_eq!(numbers(&numbered(&path, 1)), [7, 8]);
        assert_eq!(numbers(&numbered(&path, 2)), [5, 6]);
        assert!(!numbered(&path, 3).exists());
    }

    #[tokio::test]
    async fn queued_letters_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let file = DeadLetterFile::start(&config(&path, 4096, 10_000)).unwrap();
        let stored = futures_util::future::join_all((0..2000).map(|n| file.store(letter(n)))).await;
        assert!(stored.iter().all(Result::is_ok));
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        let mut all = Vec::new();
        for number in (1..files).rev() {
            let rotated = numbered(&path, u32::try_from(number).unwrap());
            assert!(std::fs::metadata(&rotated).unwrap().len() <= 4096);
            all.extend(numbers(&rotated));
        }
        all.extend(numbers(&path));
        all.sort_unstable();
        assert!(all.into_iter().eq(0..2000), "each once");
    }

    #[tokio::test]
    async fn a_file_moved_away_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        let file = DeadLetterFile::start(&config(&path, 1 << 20, 2)).unwrap();
        file.store(letter(1)).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        file.store(letter(2)).await.unwrap();
        assert_eq!(numbers(&path), [2]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = DeadLetterFile::start(&config(folder.path(), 1024, 1)).unwrap_err();
        assert!(
            error.to_string().starts_with("dead-letter file "),
            "{error}"
        );

        // A folder in the file's place fails for root too, unlike permissions.
        let path = folder.path().join("letters.jsonl");
        let file = DeadLetterFile::start(&config(&path, 1024, 1)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(file.store(letter(1)).await.is_err());
        std::fs::remove_dir(&path).unwrap();
        file.store(letter(2)).await.unwrap();
        assert_eq!(numbers(&path), [2], "it goes on once it can");
    }
}
