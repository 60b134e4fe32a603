//! A channel of a link, whose answers are awaited with the connection's end and a timeout in mind.
//!
//! Stands between the link and whatever talks to `RabbitMQ` on a channel of its own.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use lapin::Channel;
use tokio::sync::watch;

use super::State;
use super::error::LinkError;

/// A channel of a link's connection.
pub struct LinkChannel {
    channel: Channel,
    guard: Guard,
}

/// Knows the connection that a channel belongs to.
#[derive(Clone)]
pub(super) struct Guard {
    number: u64,
    state: watch::Receiver<State>,
    timeout: Duration,
}

impl LinkChannel {
    pub(super) fn new(channel: Channel, guard: Guard) -> Self {
        Self { channel, guard }
    }

    /// The channel itself.
    #[must_use]
    pub fn raw(&self) -> &Channel {
        &self.channel
    }

    /// The number of its connection among the link's, from 1.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.guard.number
    }

    /// Whether it can be used any more.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.channel.status().connected() && self.guard.is_alive()
    }

    /// Awaits the answer to something asked on this channel, but no longer than a connection may be silent.
    ///
    /// While the broker blocks publishers it answers nothing; it is waited for then.
    ///
    /// # Errors
    /// When the broker refuses, does not answer in time, or the connection is lost.
    pub async fn answer<T>(
        &self,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, LinkError> {
        self.guard.answer(asked).await
    }

    /// Awaits something for as long as the connection lives.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn unless_lost<T>(&self, future: impl Future<Output = T>) -> Result<T, LinkError> {
        self.guard.unless_lost(future).await
    }

    /// Closes the channel; what was got on it and not acknowledged goes back to its queue.
    pub async fn close(self) {
        let _ = self.answer(self.channel.close(200, "OK".into())).await;
    }
}

impl std::fmt::Debug for LinkChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkChannel")
            .field("id", &self.channel.id())
            .field("connection", &self.guard.number)
            .finish()
    }
}

impl Guard {
    pub(super) fn new(number: u64, state: watch::Receiver<State>, timeout: Duration) -> Self {
        Self {
            number,
            state,
            timeout,
        }
    }

    fn is_alive(&self) -> bool {
        is(&self.state.borrow(), self.number)
    }

    pub(super) async fn answer<T>(
        &self,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, LinkError> {
        let mut asked = pin!(self.unless_lost(asked));
        loop {
            match tokio::time::timeout(self.timeout, &mut asked).await {
                Ok(answer) => return Ok(answer??),
                Err(_) if self.state.borrow().blocked => {}
                Err(_) => return Err(LinkError::Timeout(self.timeout)),
            }
        }
    }

    async fn unless_lost<T>(&self, future: impl Future<Output = T>) -> Result<T, LinkError> {
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            value = future => Ok(value),
            // An error says that the link is gone.
            _ = state.wait_for(|state| !is(state, self.number)) => {
                Err(LinkError::Lost("the connection ended".to_owned()))
            }
        }
    }
}

fn is(state: &State, number: u64) -> bool {
    state
        .live
        .as_ref()
        .is_some_and(|live| live.number == number)
}
