//! Why there is no result.

use thiserror::Error;

/// The reason for which a run has no result, in words.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    /// What is asked for makes no sense, or this machine does not allow it; nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// It was tried, and failed.
    #[error("{0}")]
    Failed(String),
    /// A second Ctrl-C came before the first one's result.
    #[error("interrupted")]
    Interrupted,
    /// The result cannot be written.
    #[error("{0}")]
    Output(std::io::Error),
}

impl BenchError {
    /// A mistake of the command line.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }
}

impl From<String> for BenchError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl From<&str> for BenchError {
    fn from(text: &str) -> Self {
        Self::Failed(text.to_owned())
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<tokio::task::JoinError> for BenchError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Failed(error.to_string())
    }
}
