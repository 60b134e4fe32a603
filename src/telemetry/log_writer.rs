//! Standard error behind a bounded buffer and a thread, so that whoever reads the log can stall without the gateway.
//!
//! Stands beside the data path, below `logs`. A pipe whose reader stopped blocks whoever writes to it: that must be
//! this thread, and not one that serves connections. Lines that find the buffer full are dropped, and counted.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

use super::repeats::Repeats;

/// Bytes of lines that may wait.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// Room that is kept for the next lines once a flood is over.
const KEPT: usize = 64 * 1024;

/// How long repeats that were left out wait to be told of.
const A_SECOND: Duration = Duration::from_secs(1);

/// Takes log lines without ever waiting for where they go.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(Arc<Shared>, Repeats);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Lines came.
    filled: Condvar,
    /// Lines were written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// The thread writes lines that it has taken.
    writing: bool,
    /// Lines dropped that neither the counter nor the log has told of yet.
    uncounted: u64,
    untold: u64,
    counter: Option<IntCounter>,
}

impl State {
    fn dropped(&mut self, lines: u64) {
        match &self.counter {
            Some(counter) => counter.inc_by(lines),
            None => self.uncounted += lines,
        }
    }
}

impl LogWriter {
    /// Starts the thread, which also tells of the repeats that were left out.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start_on(
        writer: impl Write + Send + 'static,
        repeats: Repeats,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (lines, told) = (Arc::clone(&shared), repeats.clone());
        std::thread::Builder::new()
            .name("wsgw-log".to_owned())
            .spawn(move || lines.write_to(writer, &told))?;
        Ok(Self(shared, repeats))
    }

    /// Counts the lines that are dropped, those among them that were dropped already.
    pub(super) fn count_on(&self, counter: &IntCounter) {
        let mut state = self.0.state.lock();
        counter.inc_by(std::mem::take(&mut state.uncounted));
        state.counter = Some(counter.clone());
    }

    /// Tells of all repeats that were left out, since there will be no other time.
    pub(super) fn tell_repeats(&self) {
        self.1.tell(true);
    }

    /// Waits until all lines are written, but no longer than this.
    pub(super) fn flush(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        let mut state = self.0.state.lock();
        while state.writing || !state.waiting.is_empty() {
            if self.0.written.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    /// Takes a line, or drops it where too many wait.
    fn take(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.untold += 1;
            state.dropped(1);
        } else {
            state.waiting.extend_from_slice(line);
            self.filled.notify_one();
        }
    }

    /// Writes what waits, for as long as the process lives.
    fn write_to(&self, mut writer: impl Write, repeats: &Repeats) {
        let mut lines = Vec::new();
        let mut more = false;
        loop {
            let mut state = self.state.lock();
            state.writing = false;
            while state.waiting.is_empty() {
                self.written.notify_all();
                if more {
                    self.filled.wait_for(&mut state, A_SECOND);
                    // Whether there are lines or not, repeats are to be told.
                    break;
                }
                self.filled.wait(&mut state);
            }
            std::mem::swap(&mut lines, &mut state.waiting);
            state.writing = true;
            let untold = std::mem::take(&mut state.untold);
            drop(state);
            if writer.write_all(&lines).is_err() {
                // Nowhere is left to say so.
                let ends = lines.split(|byte| *byte == b'\n').skip(1);
                self.state.lock().dropped(ends.count() as u64);
            } else if untold > 0 {
                tracing::warn!(
                    event = "log_lines_dropped",
                    count = untold,
                    "standard error was not read for a while"
                );
            }
            more = repeats.tell(false);
            lines.clear();
            lines.shrink_to(KEPT);
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

/// Where one event is written, as one line and at once.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Shared);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Writes only when it may.
    struct Gated(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
            if self.0.recv().is_err() {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.1.lock().extend_from_slice(lines);
            Ok(lines.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let log =
            LogWriter::start_on(Gated(gate, Arc::clone(&written)), Repeats::default()).unwrap();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let room = MAX_WAITING / line.len();
        let sent = 3 * room;
        for _ in 0..sent {
            log.make_writer().write_all(&line).unwrap();
        }
        let counter = IntCounter::new("lines", "lines").unwrap();
        log.count_on(&counter);
        let dropped = usize::try_from(counter.get()).unwrap();
        // The thread may have taken a buffer before it was held up.
        assert!(
            (sent - 2 * room..=sent - room).contains(&dropped),
            "{dropped}"
        );
        log.flush(Duration::from_millis(1));
        assert!(written.lock().is_empty());
        for _ in 0..8 {
            open.send(()).unwrap();
        }
        log.flush(Duration::from_secs(30));
        assert_eq!(written.lock().len(), (sent - dropped) * line.len());
        drop(open);
        log.make_writer().write_all(b"to nobody\n").unwrap();
        log.flush(Duration::from_secs(30));
        // Of the eight turns some are left, which this line takes, and then there are none.
        while usize::try_from(counter.get()).unwrap() == dropped {
            log.make_writer().write_all(b"to nobody\n").unwrap();
            log.flush(Duration::from_secs(30));
        }
    }
}
