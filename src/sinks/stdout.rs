//! Writes events to standard output, one JSON line each.
//!
//! A thread of its own writes, because standard output may block for as long as whoever reads it likes.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{Batch, DeliveryError, Retry};
use crate::svc::BoxSink;

/// Events written at once, which is the largest batch that makes sense for this sink.
pub const MAX_BATCH: usize = 256;

/// Settings of the stdout sink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutConfig {
    /// Writes every event to standard output, beside whatever `fan_out.events_mode` selects.
    pub enabled: bool,
}

struct Job {
    batch: Batch,
    done: oneshot::Sender<std::io::Result<()>>,
}

/// Writes events as lines; its thread ends with its last clone.
#[derive(Clone)]
pub struct StdoutSink {
    jobs: mpsc::Sender<Job>,
}

impl StdoutSink {
    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> std::io::Result<Self> {
        Self::start_on(std::io::stdout())
    }

    /// Starts the thread on any writer.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start_on(writer: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("wsgw-stdout".to_owned())
            .spawn(move || write_jobs(writer, queue))?;
        Ok(Self { jobs })
    }

    /// The sink as a delivery takes it.
    #[must_use]
    pub fn into_service(self) -> BoxSink {
        let sink = Arc::new(self);
        BoxSink::new(tower::service_fn(move |batch: Batch| {
            let sink = Arc::clone(&sink);
            async move { sink.write(batch).await }
        }))
    }

    async fn write(&self, batch: Batch) -> Result<(), DeliveryError> {
        let (done, written) = oneshot::channel();
        let count = batch.len();
        let queued = self.jobs.send(Job { batch, done }).await;
        let written = match (queued, written.await) {
            (Ok(()), Ok(written)) => written,
            _ => Err(std::io::Error::other("the writing thread is gone")),
        };
        written.map_err(|error| {
            let retry = if error.kind() == ErrorKind::BrokenPipe {
                Retry::Never
            } else {
                Retry::Backoff
            };
            // Which lines of a torn write arrived is unknown, so all are written again.
            DeliveryError::all(count, reason(&error), retry)
        })
    }
}

fn reason(error: &std::io::Error) -> String {
    if error.kind() == ErrorKind::BrokenPipe {
        "standard output is closed".to_owned()
    } else {
        format!("standard output: {error}")
    }
}

impl std::fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StdoutSink")
    }
}

fn write_jobs(mut writer: impl Write, mut queue: mpsc::Receiver<Job>) {
    let mut lines = Vec::new();
    while let Some(Job { batch, done }) = queue.blocking_recv() {
        lines.clear();
        for event in batch.iter() {
            lines.extend_from_slice(&event.json);
            lines.push(b'\n');
        }
        let written = writer.write_all(&lines).and_then(|()| writer.flush());
        // The try may have been given up meanwhile.
        let _ = done.send(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::delivery::test_event;
    use parking_lot::Mutex;
    use tower::ServiceExt as _;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn batch() -> Batch {
        (1..=3).map(|seq| test_event(1, seq, None)).collect()
    }

    #[tokio::test]
    async fn one_event_is_one_line() {
        let out = Shared::default();
        let sink = StdoutSink::start_on(out.clone()).unwrap();
        let batch = batch();
        sink.into_service()
            .oneshot(Arc::clone(&batch))
            .await
            .unwrap();
        let out = out.0.lock();
        let lines: Vec<_> = out.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 3);
        for (line, event) in lines.iter().zip(batch.iter()) {
            assert_eq!(line.strip_suffix(b"\n"), Some(&event.json[..]));
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_is_not_tried_again() {
        let sink = StdoutSink::start_on(Closed).unwrap().into_service();
        let error = sink.oneshot(batch()).await.unwrap_err();
        assert_eq!(error.failed[0].retry, Retry::Never);
        assert_eq!(error.to_string(), "standard output is closed");
    }
}
