//! The terminal: taken over while the command runs, and given back however it ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::{DefaultTerminal, Frame};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How often the thread that reads keys looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Keys that may wait.
const KEYS: usize = 64;

/// The terminal in raw mode, on its other screen. Dropped, it is as it was; a panic's hook sees to that too.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // It may have got half of the way.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone need not be restored.
        let _ = ratatui::try_restore();
    }
}

/// What the terminal has to say.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input {
    Key(KeyEvent),
    /// Its size changed.
    Resized,
}

/// Reads keys in a thread of its own, which ends soon after this.
///
/// Nobody waits for it: crossterm reads a terminal that is gone again and again, and never says so. Drawing on one fails,
/// which ends the command, and the thread with it.
pub(super) struct Keys {
    inputs: mpsc::Receiver<io::Result<Input>>,
    ends: Arc<AtomicBool>,
}

impl Keys {
    pub(super) fn read() -> io::Result<Self> {
        let (sender, inputs) = mpsc::channel(KEYS);
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let read = move || {
            while !told.load(Ordering::Relaxed) {
                match next() {
                    Ok(None) => {}
                    Ok(Some(input)) => {
                        // Keys that nobody can be keeping up with are left out.
                        let _ = sender.try_send(Ok(input));
                    }
                    Err(error) => {
                        let _ = sender.try_send(Err(error));
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("keys".to_owned())
            .spawn(read)?;
        Ok(Self { inputs, ends })
    }

    /// The next input.
    pub(super) async fn next(&mut self) -> io::Result<Input> {
        let ended = || Err(io::Error::other("the terminal cannot be read"));
        self.inputs.recv().await.unwrap_or_else(ended)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn next() -> io::Result<Option<Input>> {
    if !event::poll(LOOK)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(Input::Key(key)),
        Event::Resize(..) => Some(Input::Resized),
        _ => None,
    })
}

/// The signals that end the command: SIGTERM, SIGINT from elsewhere than the keyboard, and SIGHUP of a terminal that
/// was closed.
pub(super) struct Ends([Signal; 3]);

impl Ends {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    pub(super) async fn come(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
