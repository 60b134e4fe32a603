use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::FutureExt as _;
use uuid::Uuid;

use super::drain::DEAD_LETTER_GRACE;
use super::*;
use crate::event::EventKind;
use crate::sinks::dead_letter::{DeadLetter, StoreFuture};
use crate::sinks::{Batch, DeliveryError, Retry};

mod optional;
mod order;
mod receipts;
mod reloads;
mod versions;

/// An event of a numbered connection, `seq` 1 being `connected`.
pub(crate) fn test_event(connection: u128, seq: u64, key: Option<&str>) -> Arc<Event> {
    let kind = match seq {
        1 => EventKind::Connected,
        u64::MAX => EventKind::Disconnected,
        _ => EventKind::MessageReceived,
    };
    Arc::new(Event {
        id: Uuid::now_v7(),
        kind,
        connection_id: Uuid::from_u128(connection),
        user_id: "1".into(),
        replayed: false,
        spoken_for: None,
        receipt: None,
        seq,
        ordering_key: key.map(Arc::from),
        traceparent: None,
        trace_id: None,
        span: None,
        json: Bytes::from(format!("{{\"connection\":{connection},\"seq\":{seq}}}")),
    })
}

/// A sink that a closure answers for, and a record of what it was given.
fn sink<F, R>(answer: F) -> BoxSink
where
    F: Fn(Batch) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<(), DeliveryError>> + Send + 'static,
{
    BoxSink::new(tower::service_fn(answer))
}

fn error(delivered: usize, retry: Retry) -> DeliveryError {
    DeliveryError::at(delivered, "HTTP 503", retry)
}

fn settings() -> DeliverySettings {
    DeliverySettings {
        name: "webhook",
        buffer: BufferConfig::default(),
        concurrency: 4,
        max_batch: 1,
        retry: RetryPolicy {
            attempts: None,
            base: Duration::from_secs(1),
            max: Duration::from_mins(1),
        },
        when_full: WhenFull::Wait,
        linger: Duration::ZERO,
    }
}

#[derive(Default)]
struct Letters(Mutex<Vec<DeadLetter>>);

impl DeadLetters for Letters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        self.0.lock().push(letter);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Letters {
    fn reasons(&self) -> Vec<String> {
        let letters = self.0.lock();
        letters.iter().map(|letter| letter.reason.clone()).collect()
    }
}

struct Rig {
    outlet: Outlet,
    delivery: Arc<Delivery>,
    letters: Arc<Letters>,
    metrics: Metrics,
}

fn rig(settings: &DeliverySettings, sink: BoxSink) -> Rig {
    let letters = Arc::new(Letters::default());
    let metrics = Metrics::new().unwrap();
    let outlet = Outlet::start(settings, sink, letters.clone(), &metrics);
    Rig {
        delivery: Arc::clone(outlet.delivery()),
        outlet,
        letters,
        metrics,
    }
}

impl Rig {
    fn enqueue(&self, event: &Arc<Event>) {
        let slot = self.outlet.try_reserve(event.json.len()).unwrap();
        self.outlet.enqueue(slot, Arc::clone(event));
    }

    async fn emptied(&self) {
        self.delivery.wait_until_idle().await;
    }

    fn workers(&self) -> usize {
        let version = self.outlet.version().line.index;
        self.delivery
            .shared
            .state
            .lock()
            .schedule
            .queue(version)
            .workers
    }

    fn idle(&self) -> bool {
        let state = self.delivery.shared.state.lock();
        state.schedule.is_bare() && self.delivery.shared.room.taken() == (0, 0)
    }
}

type Name = (u128, u64);

fn name(event: &Event) -> Name {
    (event.connection_id.as_u128(), event.seq)
}

#[tokio::test(start_paused = true)]
async fn a_failing_key_delays_only_itself_and_holds_no_place() {
    let ended = Arc::new(Mutex::new(Vec::new()));
    let log = ended.clone();
    let rig = rig(
        &DeliverySettings {
            concurrency: 1,
            ..settings()
        },
        sink(move |batch| {
            let log = log.clone();
            async move {
                if batch[0].ordering_key.as_deref() == Some("bad") {
                    return Err(error(0, Retry::After(Duration::from_secs(30))));
                }
                log.lock().push(name(&batch[0]));
                Ok(())
            }
        }),
    );
    rig.enqueue(&test_event(1, 2, Some("bad")));
    rig.enqueue(&test_event(1, 3, Some("bad")));
    for seq in 4..100 {
        rig.enqueue(&test_event(1, seq, Some("good")));
    }
    rig.enqueue(&test_event(2, 2, None));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(ended.lock().len(), 97, "all but the failing key's, at once");
    assert_eq!(rig.workers(), 0, "workers go away");
    // `disconnected` is tied to the failing key.
    rig.enqueue(&test_event(1, u64::MAX, None));
    rig.enqueue(&test_event(2, u64::MAX, None));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(ended.lock().len(), 98);
    assert_eq!(rig.delivery.shared.state.lock().schedule.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_and_capped() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let log = times.clone();
    let start = Instant::now();
    let rig = rig(
        &DeliverySettings {
            retry: RetryPolicy {
                attempts: Some(4),
                base: Duration::from_millis(10),
                max: Duration::from_secs(20),
            },
            ..settings()
        },
        sink(move |_| {
            let tries = {
                let mut log = log.lock();
                log.push(start.elapsed().as_secs());
                log.len()
            };
            std::future::ready(match tries {
                1 => Err(error(0, Retry::After(Duration::from_secs(7)))),
                2 => Err(error(0, Retry::After(Duration::from_hours(1)))),
                _ => Ok(()),
            })
        }),
    );
    rig.enqueue(&test_event(1, 1, None));
    rig.emptied().await;
    assert_eq!(*times.lock(), [0, 7, 27]);
    assert_eq!(rig.metrics.webhook_publish_total.get(), 1);
    assert_eq!(
        rig.metrics
            .sink_retries_total
            .with_label_values(&["webhook"])
            .get(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn exhausted_and_refused_events_become_dead_letters() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let rig = rig(
        &DeliverySettings {
            retry: RetryPolicy {
                attempts: Some(3),
                ..settings().retry
            },
            ..settings()
        },
        sink(move |batch| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Err(if batch[0].seq == 1 {
                error(0, Retry::Backoff)
            } else {
                DeliveryError::at(0, "HTTP 400", Retry::Never)
            }))
        }),
    );
    let first = test_event(1, 1, None);
    rig.enqueue(&first);
    rig.enqueue(&test_event(1, 2, None));
    rig.emptied().await;
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    assert_eq!(
        rig.letters.reasons(),
        ["HTTP 503 after 3 tries", "HTTP 400"]
    );
    let letters = rig.letters.0.lock();
    assert_eq!(letters[0].raw, first.json);
    assert_eq!(letters[0].event_id, Some(first.id));
    assert_eq!(letters[0].sink, "webhook");
    let kept = |reason| {
        let letters = &rig.metrics.dead_letters_total;
        letters
            .with_label_values(&["webhook", reason, "kept"])
            .get()
    };
    assert_eq!([kept("exhausted"), kept("rejected")], [1, 1]);
    assert_eq!(rig.metrics.webhook_publish_failed_total.get(), 2);
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn reserving_is_bounded_and_first_come_first_served() {
    let rig = rig(
        &DeliverySettings {
            buffer: BufferConfig {
                max_events: 3,
                max_bytes: 100,
            },
            ..settings()
        },
        sink(|_| std::future::ready(Ok(()))),
    );
    let outlet = &rig.outlet;
    let first = outlet.try_reserve(60).unwrap();
    assert!(outlet.try_reserve(41).is_none(), "too many bytes");
    let second = outlet.try_reserve(10).unwrap();
    let third = outlet.try_reserve(0).unwrap();
    assert!(outlet.try_reserve(0).is_none(), "too many events");

    let order = Arc::new(Mutex::new(Vec::new()));
    let ask = |who: &'static str, bytes| {
        let (outlet, order) = (outlet.clone(), Arc::clone(&order));
        tokio::spawn(async move {
            let slot = outlet.reserve(bytes).await;
            order.lock().push(who);
            slot
        })
    };
    let huge = ask("huge", 5000);
    tokio::task::yield_now().await;
    let gone = ask("gone", 100);
    tokio::task::yield_now().await;
    let small = ask("small", 1);
    tokio::task::yield_now().await;
    drop(third);
    tokio::task::yield_now().await;
    assert!(order.lock().is_empty(), "the small one does not overtake");
    assert!(
        outlet.try_reserve(0).is_none(),
        "nor does one that just came"
    );
    drop((first, second));
    let huge = huge.await.unwrap();
    assert_eq!(huge.bytes(), 100, "all there is");
    assert_eq!(outlet.delivery().shared.room.waiting(), 2);
    gone.abort();
    assert!(gone.await.is_err());
    assert_eq!(
        outlet.delivery().shared.room.waiting(),
        1,
        "leaving leaves nothing behind"
    );
    drop(huge);
    drop(small.await.unwrap());
    assert_eq!(*order.lock(), ["huge", "small"]);
    assert_eq!(outlet.delivery().shared.room.taken(), (0, 0));
    rig.metrics.sample();
    let gauge = rig
        .metrics
        .sink_buffer_bytes
        .with_label_values(&["webhook"]);
    assert_eq!(gauge.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waited_first_enqueues_first_whichever_task_wakes_first() {
    let rig = rig(
        &DeliverySettings {
            buffer: BufferConfig {
                max_events: 2,
                max_bytes: 1000,
            },
            ..settings()
        },
        sink(|_| std::future::ready(Ok(()))),
    );
    let outlet = &rig.outlet;
    let held = [1, 1].map(|bytes| outlet.try_reserve(bytes).unwrap());
    let mut first = Box::pin(outlet.reserve(1));
    let mut second = Box::pin(outlet.reserve(1));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(held);
    assert!(
        second.as_mut().now_or_never().is_none(),
        "there is room for it, but its turn comes after the first one's"
    );
    assert!(outlet.try_reserve(1).is_none(), "nor may a third one");
    let slot = first.await;
    assert!(second.as_mut().now_or_never().is_none());
    outlet.enqueue(slot, test_event(1, 1, None));
    let slot = second.now_or_never().unwrap();
    outlet.enqueue(slot, test_event(2, 1, None));
    rig.emptied().await;
    assert!(rig.idle());
    // One that is given up passes its turn on too.
    let held = [1, 1].map(|bytes| outlet.try_reserve(bytes).unwrap());
    let mut gone = Box::pin(outlet.reserve(1));
    assert!(gone.as_mut().now_or_never().is_none());
    drop(held);
    assert!(outlet.try_reserve(1).is_none());
    drop(gone);
    assert!(outlet.try_reserve(1).is_some());
}

#[tokio::test(start_paused = true)]
async fn room_comes_back_only_with_the_delivery() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let rig = rig(
        &DeliverySettings {
            buffer: BufferConfig {
                max_events: 1,
                max_bytes: 1000,
            },
            ..settings()
        },
        sink(move |_| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                Ok(())
            }
        }),
    );
    rig.enqueue(&test_event(1, 1, None));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(rig.outlet.try_reserve(1).is_none());
    open.send(true).unwrap();
    let slot = rig.outlet.reserve(1).await;
    drop(slot);
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn a_drain_delivers_and_cuts_back_offs() {
    let healthy_at = Instant::now() + Duration::from_secs(4);
    let rig = rig(
        &settings(),
        sink(move |_| {
            std::future::ready(if Instant::now() < healthy_at {
                Err(error(0, Retry::After(Duration::from_hours(1))))
            } else {
                Ok(())
            })
        }),
    );
    for connection in 0..50 {
        rig.enqueue(&test_event(connection, 1, None));
        rig.enqueue(&test_event(connection, 2, None));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let drained = rig.delivery.drain(start + Duration::from_secs(10)).await;
    assert_eq!(
        (drained.delivered, drained.dead_lettered, drained.lost),
        (100, 0, 0)
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_becomes_dead_letters() {
    let rig = rig(
        &settings(),
        sink(|batch| async move {
            match batch[0].seq {
                2 => std::future::pending().await,
                _ => Err(error(0, Retry::Backoff)),
            }
        }),
    );
    for connection in 0..10 {
        for seq in 2..12 {
            rig.enqueue(&test_event(connection, seq, None));
        }
        rig.enqueue(&test_event(connection, u64::MAX, None));
    }
    rig.enqueue(&test_event(10, 3, None));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let drained = rig.delivery.drain(start + Duration::from_secs(3)).await;
    assert_eq!(
        start.elapsed(),
        Duration::from_secs(3),
        "hanging tries are given up"
    );
    assert_eq!(
        (drained.delivered, drained.dead_lettered, drained.lost),
        (0, 111, 0)
    );
    assert!(
        rig.letters
            .reasons()
            .iter()
            .all(|reason| reason == "gateway stopping")
    );
    assert!(rig.idle());

    rig.enqueue(&test_event(11, 1, None));
    rig.emptied().await;
    assert_eq!(
        rig.letters.0.lock().len(),
        112,
        "events after the drain go the same way"
    );
}

struct Hangs;

impl DeadLetters for Hangs {
    fn store(&self, _letter: DeadLetter) -> StoreFuture<'_> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_dead_letter_target_does_not_hold_up_the_stop() {
    let metrics = Metrics::new().unwrap();
    let service = sink(|_| std::future::ready(Err(error(0, Retry::Never))));
    let outlet = Outlet::start(&settings(), service, Arc::new(Hangs), &metrics);
    for connection in 0..20 {
        let slot = outlet.try_reserve(1).unwrap();
        outlet.enqueue(slot, test_event(connection, 1, None));
    }
    let start = Instant::now();
    let drained = outlet
        .delivery()
        .drain(start + Duration::from_secs(2))
        .await;
    assert_eq!(start.elapsed(), Duration::from_secs(2) + DEAD_LETTER_GRACE);
    assert_eq!(drained.lost, 20);
    let lost = metrics
        .dead_letters_total
        .with_label_values(&["webhook", "shutdown", "lost"]);
    assert_eq!(lost.get(), 20);
    assert_eq!(outlet.delivery().shared.room.taken(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_stops_the_tasks_and_counts_what_is_lost() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let rig = rig(
        &settings(),
        sink(move |_| {
            let held = Arc::clone(&held);
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok(())
            }
        }),
    );
    for connection in 0..9 {
        rig.enqueue(&test_event(connection, 1, None));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(Arc::strong_count(&alive) > 4);
    let Rig {
        delivery,
        outlet,
        metrics,
        ..
    } = rig;
    drop((delivery, outlet));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&alive), 1, "no task keeps the sink");
    let lost = metrics
        .dead_letters_total
        .with_label_values(&["webhook", "shutdown", "lost"]);
    assert_eq!(lost.get(), 9);
}
