//! A real pseudo terminal, by `script` of util-linux, and what a person would see on it.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::{PATIENCE, POLL, eventually};

/// A shell's command in a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    written: Arc<Mutex<Vec<u8>>>,
    size: (usize, usize),
}

impl Terminal {
    /// Runs a command with these variables in a terminal of so many columns and rows.
    pub fn run(command: &str, env: &[(&str, &str)], (columns, rows): (usize, usize)) -> Self {
        let command = format!("stty cols {columns} rows {rows}; {command}");
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let bytes = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(n @ 1..) = output.read(&mut chunk) {
                bytes.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        Self {
            keyboard: child.stdin.take().unwrap(),
            child,
            written,
            size: (columns, rows),
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Takes the terminal away from what runs in it, as a connection does that is lost.
    pub fn vanish(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Everything written, as bytes of a terminal.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// What is on the screen, line by line.
    pub fn screen(&self) -> String {
        drawn(&self.written(), self.size)
    }

    /// Waits until the screen has all of some texts.
    pub async fn shows(&self, texts: &[&str]) -> String {
        let mut last = String::new();
        let look = async {
            loop {
                last = self.screen();
                if texts.iter().all(|text| last.contains(text)) {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let shown = tokio::time::timeout(PATIENCE, look).await.is_ok();
        assert!(shown, "waited in vain for {texts:?} on the screen:\n{last}");
        last
    }

    /// Waits for the end of the command; gives what it wrote after it left its own screen.
    pub async fn ended(mut self) -> String {
        eventually("the end of what runs in the terminal", || {
            self.child.try_wait().unwrap()
        })
        .await;
        let written = self.written();
        let (_, after) = written.rsplit_once("\u{1b}[?1049l").unwrap_or_else(|| {
            panic!("the other screen was not left: {written:?}");
        });
        after.to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Draws what `wsgw top` writes: texts, moves to a place, and clearing. What else there is changes no text.
fn drawn(written: &str, (columns, rows): (usize, usize)) -> String {
    let mut cells = vec![vec![' '; columns]; rows];
    let (mut row, mut column) = (0, 0);
    let mut rest = written.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => {
                if rest.next() != Some('[') {
                    continue;
                }
                let mut numbers = String::new();
                let end = rest.by_ref().find(|end| {
                    numbers.push(*end);
                    end.is_ascii_alphabetic()
                });
                numbers.pop();
                let switched = numbers.clone();
                let mut numbers = numbers
                    .split(';')
                    .map(|number| number.parse::<usize>().unwrap_or(1));
                match end {
                    Some('H') => {
                        row = numbers.next().unwrap_or(1) - 1;
                        column = numbers.next().unwrap_or(1) - 1;
                    }
                    // The other screen is empty.
                    Some('h') if switched == "?1049" => {
                        cells = vec![vec![' '; columns]; rows];
                    }
                    Some('J') => cells = vec![vec![' '; columns]; rows],
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => row += 1,
            _ => {
                if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                    *cell = character;
                }
                column += 1;
            }
        }
    }
    let lines: Vec<String> = cells.into_iter().map(|row| row.iter().collect()).collect();
    lines.join("\n")
}
