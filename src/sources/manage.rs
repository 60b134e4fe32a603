//! The task of one kind of source: runs what the configuration asks for, and changes it while it runs.
//!
//! Stands between a reload, which only says what is wanted, and the source. A change is carried out to its end before
//! the next one is looked at, so however fast reloads come, at most two sources of a kind run at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for a new source to read before the old one stops.
const OVERLAP: Duration = Duration::from_secs(5);

/// What a changed configuration means for a source that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// Nothing: it goes on.
    Same,
    /// It stops, and another goes on where it was.
    Continues,
    /// Another one begins, and then it stops.
    Other,
}

/// A source as a configuration asks for it.
pub(super) trait Feed: Send + Sync + 'static {
    /// What one that goes on in its place needs of it.
    type Left: Send + 'static;

    /// What it means for one that runs that this one is wanted now.
    fn relation(&self, running: &Self) -> Relation;

    /// How many pushes it has not read yet; none while nobody knows.
    fn lag(&self) -> BoxFuture<'_, Option<u64>>;

    /// Tells `/ready` that it does not read yet.
    fn announce(&self);

    /// Reads until it is told to stop, and all that was read has been handed over.
    fn run(self: Arc<Self>, run: Run<Self::Left>) -> RunFuture<Self::Left>;
}

/// The life of a source.
pub(super) type RunFuture<L> = Pin<Box<dyn Future<Output = L> + Send>>;

/// What a source is begun with.
pub(super) struct Run<L> {
    /// Where another one stopped.
    pub(super) from: Option<L>,
    /// Cancelled when it is to stop.
    pub(super) stop: CancellationToken,
    /// Becomes true once it reads.
    pub(super) reads: watch::Sender<bool>,
}

/// What is wanted; none: no source of this kind.
pub(super) type Wanted<F> = Option<Arc<F>>;

struct Running<F: Feed> {
    feed: Arc<F>,
    stop: CancellationToken,
    reads: watch::Receiver<bool>,
    task: JoinHandle<F::Left>,
}

impl<F: Feed> Running<F> {
    fn start(feed: &Arc<F>, from: Option<F::Left>, stop: &CancellationToken) -> Self {
        let stop = stop.child_token();
        let (sender, reads) = watch::channel(false);
        let run = Run {
            from,
            stop: stop.clone(),
            reads: sender,
        };
        Self {
            feed: Arc::clone(feed),
            stop,
            reads,
            task: tokio::spawn(Arc::clone(feed).run(run)),
        }
    }

    /// Stops it, after what it read has been handed over.
    async fn end(&mut self) -> Option<F::Left> {
        self.stop.cancel();
        (&mut self.task).await.ok()
    }
}

impl<F: Feed> Drop for Running<F> {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

/// Runs what is wanted until told to stop.
pub(super) async fn manage<F: Feed>(
    mut wanted: watch::Receiver<Wanted<F>>,
    stop: CancellationToken,
) {
    let mut running: Option<Running<F>> = None;
    loop {
        let want = wanted.borrow_and_update().clone();
        running = match (running, want) {
            (None, None) => None,
            (None, Some(feed)) => Some(Running::start(&feed, None, &stop)),
            (Some(mut old), None) => {
                old.end().await;
                None
            }
            (Some(mut old), Some(feed)) => Some(match feed.relation(&old.feed) {
                Relation::Same => old,
                Relation::Continues => {
                    let left = old.end().await;
                    Running::start(&feed, left, &stop)
                }
                Relation::Other => {
                    let mut new = Running::start(&feed, None, &stop);
                    let reads = new.reads.wait_for(|reads| *reads);
                    let reads = stop.run_until_cancelled(tokio::time::timeout(OVERLAP, reads));
                    let reads = matches!(reads.await, Some(Ok(Ok(_))));
                    old.end().await;
                    if !reads {
                        // The old one may have said that all is well with it.
                        feed.announce();
                    }
                    new
                }
            }),
        };
        let changed = stop.run_until_cancelled(wanted.changed()).await;
        if !matches!(changed, Some(Ok(()))) {
            break;
        }
    }
    if let Some(mut running) = running {
        running.end().await;
    }
}

#[cfg(test)]
mod tests;
