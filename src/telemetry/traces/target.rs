//! Where batches of spans go: nowhere, to standard output, or to a collector.
//!
//! Stands between the task that exports and the exporters. Standard output may block for as long as whoever reads it
//! likes, so that a thread of its own writes it.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::encode::Format;
use super::otlp::{Failure, Otlp, OtlpError, Then};
use super::queue::Batch;
use super::resource::{Resource, attributes, json_around};
use crate::clock::seconds;
use crate::config::{TracingConfig, TracingExporter};

/// What exports batches.
#[derive(Debug)]
pub(super) struct Target {
    exporter: Exporter,
    /// How long a span waits for others.
    pub(super) every: Duration,
}

#[derive(Debug)]
enum Exporter {
    None,
    Stdout(Lines),
    Otlp(Box<Otlp>),
}

/// Writes spans as lines; its thread ends with it.
#[derive(Debug)]
struct Lines {
    jobs: mpsc::Sender<Job>,
    before: Vec<u8>,
    after: &'static [u8],
    timeout: Duration,
}

#[derive(Debug)]
struct Job {
    lines: Bytes,
    done: oneshot::Sender<std::io::Result<()>>,
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The collector's settings cannot be used.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// No thread could be started.
    #[error("no thread can be started for `tracing.exporter: stdout`: {0}")]
    Stdout(std::io::Error),
}

impl Target {
    /// Nowhere.
    pub(super) fn none() -> Self {
        Self {
            exporter: Exporter::None,
            every: Duration::MAX,
        }
    }

    /// That of a configuration; connects to nothing yet.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub(super) fn new(config: &TracingConfig, node_id: &str) -> Result<Self, TracesError> {
        let attributes = attributes(config, node_id);
        let exporter = match config.exporter {
            TracingExporter::None => return Ok(Self::none()),
            TracingExporter::Stdout => {
                let (before, after) = json_around(&attributes);
                Exporter::Stdout(Lines {
                    jobs: start(std::io::stdout()).map_err(TracesError::Stdout)?,
                    before,
                    after,
                    timeout: seconds(config.otlp.timeout_seconds),
                })
            }
            TracingExporter::Otlp => {
                let resource = Resource::new(&attributes);
                Exporter::Otlp(Box::new(Otlp::new(&config.otlp, resource)?))
            }
        };
        Ok(Self {
            exporter,
            every: seconds(config.batch_seconds),
        })
    }

    /// How spans for it are written; nothing if it takes none.
    pub(super) fn format(&self) -> Option<Format> {
        match self.exporter {
            Exporter::None => None,
            Exporter::Stdout(_) => Some(Format::Json),
            Exporter::Otlp(_) => Some(Format::Protobuf),
        }
    }

    /// What is sent for a batch.
    pub(super) fn body(&self, batch: &Batch) -> Bytes {
        match &self.exporter {
            Exporter::None => Bytes::new(),
            Exporter::Stdout(lines) => lines.body(batch),
            Exporter::Otlp(otlp) => otlp.body(batch),
        }
    }

    /// Sends it once; gives how many spans were rejected all the same.
    pub(super) async fn send(&self, body: Bytes) -> Result<u64, Failure> {
        match &self.exporter {
            Exporter::None => Ok(0),
            Exporter::Stdout(lines) => lines.write(body).await.map(|()| 0),
            Exporter::Otlp(otlp) => otlp.send(body).await,
        }
    }
}

fn start(writer: impl Write + Send + 'static) -> std::io::Result<mpsc::Sender<Job>> {
    let (jobs, mut queue) = mpsc::channel::<Job>(1);
    let mut writer = writer;
    std::thread::Builder::new()
        .name("wsgw-spans".to_owned())
        .spawn(move || {
            while let Some(Job { lines, done }) = queue.blocking_recv() {
                let written = writer.write_all(&lines).and_then(|()| writer.flush());
                // Whoever asked may have given up meanwhile.
                let _ = done.send(written);
            }
        })?;
    Ok(jobs)
}

impl Lines {
    fn body(&self, batch: &Batch) -> Bytes {
        let around = self.before.len() + self.after.len();
        let mut lines = Vec::with_capacity(batch.bytes.len() + batch.spans * around);
        for span in batch.bytes.split_inclusive(|byte| *byte == b'\n') {
            lines.extend_from_slice(&self.before);
            lines.extend_from_slice(span.strip_suffix(b"\n").unwrap_or(span));
            lines.extend_from_slice(self.after);
        }
        lines.into()
    }

    async fn write(&self, lines: Bytes) -> Result<(), Failure> {
        let (done, written) = oneshot::channel();
        let writing = async {
            let queued = self.jobs.send(Job { lines, done }).await;
            matches!((queued, written.await), (Ok(()), Ok(Ok(()))))
        };
        let failure = |reason: &str, then| {
            Err(Failure {
                reason: reason.to_owned(),
                then,
            })
        };
        match tokio::time::timeout(self.timeout, writing).await {
            Ok(true) => Ok(()),
            // A torn line cannot be taken back.
            Ok(false) => failure("standard output is closed", Then::Drop),
            // It may still be written: a second time would be one too many.
            Err(_) => failure("nobody reads standard output", Then::Drop),
        }
    }
}
