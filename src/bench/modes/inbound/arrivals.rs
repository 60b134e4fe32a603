//! Where the messages of `inbound` arrive, and who looks.
//!
//! Stands at the end of the way: the webhook, or a broker that the gateway writes to.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinHandle, JoinSet};

use crate::bench::amqp::Consumer;
use crate::bench::args::{InboundArgs, InboundRate};
use crate::bench::redis::StreamReader;
use crate::bench::target::require_loopback;
use crate::bench::webhook::{self, Backend, Behaviour};
use crate::bench::{BenchError, Result};

/// How often a stream's length is asked for.
const COUNT_INTERVAL: Duration = Duration::from_millis(50);

/// What sees the messages arrive.
pub(super) enum Arrivals {
    /// Nothing.
    Unseen,
    /// The webhook, served here.
    Webhook(JoinSet<()>),
    /// A task that reads a broker as the messages arrive.
    Followed(Task),
    /// A task that only counts a stream's entries, which are read when all is over.
    Counted {
        counter: Task,
        count: Rc<Cell<usize>>,
        reader: StreamReader,
    },
}

/// Stops its task when it is dropped.
pub(super) struct Task(JoinHandle<Result<(), String>>);

impl Task {
    fn spawn(work: impl Future<Output = Result<()>> + 'static) -> Self {
        Self(tokio::task::spawn_local(async move {
            work.await.map_err(|error| error.to_string())
        }))
    }

    /// Why it stopped by itself, which it never should.
    async fn stop(mut self) -> Result<(), String> {
        self.0.abort();
        (&mut self.0).await.unwrap_or(Ok(()))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Arrivals {
    /// Starts to look where the options say.
    pub(super) async fn open(args: &InboundArgs, backend: &Rc<Backend>) -> Result<Self> {
        let remote = args.shared.allow_remote;
        let backend = backend.clone();
        if let Some(address) = args.webhook_listen {
            require_loopback(address.ip(), remote)?;
            let behaviour = Behaviour {
                fail_percent: args.fail_percent,
                delay: Duration::from_millis(args.delay_ms),
            };
            let (_, tasks) =
                webhook::serve(backend, address, behaviour)
                    .await
                    .map_err(|error| {
                        BenchError::usage(format!("cannot listen on {address}: {error}"))
                    })?;
            return Ok(Self::Webhook(tasks));
        }
        if let Some(url) = &args.rabbitmq {
            let mut consumer = Consumer::open(url, &args.queue, remote).await?;
            return Ok(Self::Followed(Task::spawn(async move {
                loop {
                    consumer
                        .read(|event| {
                            backend.receive(event, Instant::now());
                        })
                        .await?;
                }
            })));
        }
        let Some(url) = &args.redis else {
            return Ok(Self::Unseen);
        };
        let mut reader = StreamReader::open(url, &args.stream, remote).await?;
        if args.rate != InboundRate::Burst {
            return Ok(Self::Followed(Task::spawn(async move {
                loop {
                    reader
                        .read(|_, event| {
                            backend.receive(event, Instant::now());
                        })
                        .await?;
                }
            })));
        }
        let before = reader.length().await?;
        let mut counting = StreamReader::open(url, &args.stream, remote).await?;
        let count = Rc::new(Cell::new(0));
        let shared = count.clone();
        let counter = Task::spawn(async move {
            loop {
                shared.set(counting.length().await?.saturating_sub(before));
                tokio::time::sleep(COUNT_INTERVAL).await;
            }
        });
        Ok(Self::Counted {
            counter,
            count,
            reader,
        })
    }

    /// How many arrived, where only their number is known yet.
    pub(super) fn counted(&self) -> Option<usize> {
        match self {
            Self::Counted { count, .. } => Some(count.get()),
            _ => None,
        }
    }

    /// Stops looking, and reads what was only counted; fails when looking had stopped before.
    pub(super) async fn finish(self, backend: &Backend) -> Result<()> {
        match self {
            Self::Unseen => {}
            Self::Webhook(tasks) => drop(tasks),
            Self::Followed(task) => task.stop().await?,
            Self::Counted {
                counter,
                mut reader,
                ..
            } => {
                counter.stop().await?;
                // The two clocks side by side: entries know the time of day, the sends only this process' time.
                let (now, today) = (
                    Instant::now(),
                    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
                );
                let arrived = |milliseconds| {
                    let ago = today.saturating_sub(Duration::from_millis(milliseconds));
                    now.checked_sub(ago).unwrap_or(now)
                };
                let receive = |milliseconds, event: &[u8]| {
                    backend.receive(event, arrived(milliseconds));
                };
                while reader.read(receive).await? > 0 {}
            }
        }
        Ok(())
    }
}
