//! Another pipeline file for a gateway that runs.

use std::path::PathBuf;

use serde_json::Value;

use super::{Gateway, eventually, in_crate};

/// A terminator's pipeline with more lines below `snoke_ws`; `server` and `stages` are the inner parts of each.
pub fn pipeline(server: &str, stages: &str, more: &str) -> String {
    let key = in_crate("tests/keys/rsa.pub.pem");
    format!(
        "snoke_ws:\n  \
         server: {{ listen: \"127.0.0.1:0\", api_key: itest-api-key, drain_seconds: 2{server} }}\n  \
         stages:\n    \
         - auth: {{ jwt: {{ algorithm: RS256, public_key_file: \"{}\" }} }}\n    \
         {stages}\n{more}",
        key.display()
    )
}

/// A webhook as a sink, with more settings.
pub fn webhook_at(url: &str, more: &str) -> String {
    format!(
        "  events: {{ webhook: {{ url: \"{url}\", retry_base_seconds: 0.02, retry_max_seconds: 0.2{more} }} }}\n"
    )
}

impl Gateway {
    /// The pipeline file, where the gateway runs one of its own.
    pub fn pipeline_file(&self) -> PathBuf {
        self.directory().join("pipeline.yaml")
    }

    /// Replaces the pipeline file, at once as an editor does.
    pub fn write_pipeline(&self, yaml: &str) {
        let next = self.directory().join("pipeline.yaml.next");
        std::fs::write(&next, yaml).unwrap();
        std::fs::rename(next, self.pipeline_file()).unwrap();
    }

    /// The log lines of an event so far.
    pub fn lines(&self, event: &str) -> Vec<Value> {
        let mut lines = self.logs();
        lines.retain(|line| line["event"] == event);
        lines
    }

    /// Sends SIGHUP and waits for a further line of an event.
    pub async fn hang_up(&self, event: &str) -> Value {
        let before = self.lines(event).len();
        self.signal("HUP");
        self.line_after(event, before).await
    }

    /// Waits for the line of an event that follows on so many.
    pub async fn line_after(&self, event: &str, before: usize) -> Value {
        eventually(&format!("a further line {event}"), || {
            self.lines(event).into_iter().nth(before)
        })
        .await
    }

    /// Puts another pipeline in force; gives the line that says so.
    pub async fn reload(&self, yaml: &str) -> Value {
        self.write_pipeline(yaml);
        self.hang_up("reloaded").await
    }
}
