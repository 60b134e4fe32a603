//! Receipts: exactly one word for each event, whatever becomes of it.

use super::*;
use crate::event::Receipt;

/// What was told of each event that bears it.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Receipt for Told {
    fn delivered(&self, sink: &'static str) {
        self.0.lock().push(format!("{sink}: delivered"));
    }

    fn failed(&self, sink: &'static str, reason: &str) {
        self.0.lock().push(format!("{sink}: {reason}"));
    }
}

/// An event, and what is told of it.
fn awaited(connection: u128, seq: u64) -> (Arc<Event>, Arc<Told>) {
    let told = Arc::new(Told::default());
    let mut event = Arc::into_inner(test_event(connection, seq, None)).unwrap();
    event.receipt = Some(told.clone());
    (Arc::new(event), told)
}

impl Told {
    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_event_is_told_once_after_all_its_tries() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let rig = rig(
        &DeliverySettings {
            max_batch: 8,
            ..settings()
        },
        sink(move |batch: Batch| {
            let earlier = count.fetch_add(1, Ordering::SeqCst);
            async move {
                match earlier {
                    0 => std::panic::panic_any("a panic that the delivery must survive"),
                    // The first one is delivered, the others are tried again.
                    1 => Err(error(1, Retry::Backoff)),
                    _ if batch[0].seq == 9 => Err(error(0, Retry::Never)),
                    _ => Ok(()),
                }
            }
        }),
    );
    let quiet = order::quieten();
    let events: Vec<_> = [2, 3, 9].map(|seq| awaited(1, seq)).into();
    for (event, _) in &events[..2] {
        rig.enqueue(event);
    }
    assert!(events[0].1.all().is_empty());
    rig.emptied().await;
    rig.enqueue(&events[2].0);
    rig.emptied().await;
    std::panic::set_hook(quiet);
    tokio::task::yield_now().await;
    assert!(tries.load(Ordering::SeqCst) > 3);
    for (_, told) in &events[..2] {
        assert_eq!(told.all(), ["webhook: delivered"]);
    }
    assert_eq!(events[2].1.all(), ["webhook: HTTP 503"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_leaves_is_told_once() {
    // Of one that drains in vain, and one whose dead letters are kept nowhere either.
    let rig = rig(&settings(), sink(|_| std::future::pending()));
    let metrics = Metrics::new().unwrap();
    let service = sink(|_| std::future::ready(Err(error(0, Retry::Never))));
    let lost = Outlet::start(&settings(), service, Arc::new(Hangs), &metrics);
    let (kept, told_kept) = awaited(1, 1);
    let (gone, told_gone) = awaited(1, 1);
    rig.enqueue(&kept);
    lost.enqueue(lost.try_reserve(1).unwrap(), gone);
    let deadline = Instant::now() + Duration::from_secs(1);
    let drains = [&rig.delivery, lost.delivery()].map(|delivery| delivery.drain(deadline));
    futures_util::future::join_all(drains).await;
    tokio::task::yield_now().await;
    assert_eq!(told_kept.all(), ["webhook: gateway stopping"]);
    assert_eq!(told_gone.all(), ["webhook: the gateway stopped"]);
    // What comes after the end.
    let (late, told) = awaited(2, 1);
    lost.enqueue(lost.try_reserve(1).unwrap(), late);
    assert_eq!(told.all(), ["webhook: the gateway stopped"]);
    let (late, told) = awaited(2, 1);
    rig.enqueue(&late);
    rig.emptied().await;
    tokio::task::yield_now().await;
    assert_eq!(told.all(), ["webhook: gateway stopping"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_told_once() {
    let rig = rig(
        &DeliverySettings {
            buffer: BufferConfig {
                max_events: 1,
                max_bytes: 1000,
            },
            when_full: WhenFull::Drop,
            ..settings()
        },
        sink(|_| std::future::pending()),
    );
    let events = [awaited(1, 1), awaited(1, 2)];
    for (event, _) in &events {
        rig.outlet.enqueue_or_drop(event);
    }
    assert_eq!(events[1].1.all(), ["webhook: the buffer is full"]);
    sleep_a_moment().await;
    let Rig {
        delivery, outlet, ..
    } = rig;
    drop((delivery, outlet));
    sleep_a_moment().await;
    assert_eq!(events[0].1.all(), ["webhook: the gateway stopped"]);
    assert_eq!(events[1].1.all().len(), 1);
}

async fn sleep_a_moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// One that panics, which costs nobody else anything.
struct Panics;

impl Receipt for Panics {
    fn delivered(&self, _sink: &'static str) {
        std::panic::panic_any("a panic that the delivery must survive");
    }

    fn failed(&self, _sink: &'static str, _reason: &str) {
        self.delivered("");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_panics_takes_no_worker_away() {
    let quiet = order::quieten();
    let answer = |batch: Batch| {
        std::future::ready(match batch[0].seq {
            2 => Err(error(0, Retry::Never)),
            _ => Ok(()),
        })
    };
    let rig = rig(
        &DeliverySettings {
            concurrency: 1,
            ..settings()
        },
        sink(answer),
    );
    for seq in 1..4 {
        let mut event = Arc::into_inner(test_event(1, seq, None)).unwrap();
        event.receipt = Some(Arc::new(Panics));
        rig.enqueue(&Arc::new(event));
    }
    rig.emptied().await;
    std::panic::set_hook(quiet);
    assert_eq!(rig.metrics.webhook_publish_total.get(), 2);
    assert!(rig.idle());
}
