//! Reloads as a delivery sees them: versions that come, end, and come back.

use tokio::time::sleep;

use super::*;

/// What a sink was given, by its own name.
type Log = Arc<Mutex<Vec<(&'static str, Name)>>>;

/// A sink that takes everything.
fn takes(who: &'static str, log: &Log) -> BoxSink {
    let log = Arc::clone(log);
    sink(move |batch: Batch| {
        let names = batch.iter().map(|event| (who, name(event)));
        log.lock().extend(names);
        std::future::ready(Ok(()))
    })
}

fn hangs() -> BoxSink {
    sink(|_| std::future::pending())
}

fn single() -> DeliverySettings {
    DeliverySettings {
        concurrency: 1,
        ..settings()
    }
}

impl Rig {
    /// The next generation's outlet, which is put in force.
    fn reload(&self, settings: &DeliverySettings, sink: BoxSink) -> Outlet {
        let letters = self.letters.clone();
        let version = self.delivery.version(settings, sink, letters);
        self.delivery.activate(&version);
        Outlet::new(Arc::clone(&self.delivery), version)
    }

    fn retire(&self, seconds: u64) -> Instant {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        self.delivery.retire(self.outlet.version(), deadline);
        deadline
    }
}

pub(super) fn enqueue(outlet: &Outlet, event: &Arc<Event>) {
    let slot = outlet.try_reserve(event.json.len()).unwrap();
    outlet.enqueue(slot, Arc::clone(event));
}

#[tokio::test(start_paused = true)]
async fn each_event_goes_to_its_own_target_in_the_order_of_its_lane() {
    let log = Log::default();
    let (open, gate) = tokio::sync::watch::channel(false);
    let old = {
        let log = log.clone();
        sink(move |batch: Batch| {
            let (log, mut gate) = (log.clone(), gate.clone());
            async move {
                let _ = gate.wait_for(|open| *open).await;
                log.lock().extend(batch.iter().map(|e| ("old", name(e))));
                Ok(())
            }
        })
    };
    let settings = DeliverySettings {
        max_batch: 16,
        ..settings()
    };
    let rig = rig(&settings, old);
    rig.enqueue(&test_event(1, 1, None));
    rig.enqueue(&test_event(1, 2, Some("key")));
    rig.enqueue(&test_event(1, 3, None));
    let new = rig.reload(&settings, takes("new", &log));
    rig.retire(60);
    enqueue(&new, &test_event(2, 2, Some("key")));
    enqueue(&new, &test_event(1, 4, None));
    enqueue(&new, &test_event(1, u64::MAX, None));
    enqueue(&new, &test_event(3, 1, None));
    // A generation that has not ended yet mixes in.
    rig.enqueue(&test_event(3, 2, None));
    enqueue(&new, &test_event(3, 3, None));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        *log.lock(),
        [("new", (3, 1))],
        "nothing else is free of the old target"
    );
    open.send(true).unwrap();
    rig.emptied().await;
    let log = log.lock();
    let place = |wanted| log.iter().position(|entry| *entry == wanted).unwrap();
    for chain in [
        &[("old", (1, 1)), ("old", (1, 2)), ("new", (2, 2))][..],
        &[("old", (1, 3)), ("new", (1, 4)), ("new", (1, u64::MAX))],
        &[("old", (1, 2)), ("new", (1, u64::MAX))],
        &[("new", (3, 1)), ("old", (3, 2)), ("new", (3, 3))],
    ] {
        assert!(chain.is_sorted_by_key(|wanted| place(*wanted)), "{log:?}");
    }
    assert_eq!(log.len(), 9);
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn a_dead_old_target_stops_nobody_new() {
    let log = Log::default();
    let rig = rig(&single(), hangs());
    for connection in 0..100 {
        rig.enqueue(&test_event(connection, 1, None));
    }
    sleep(Duration::from_millis(1)).await;
    let new = rig.reload(&single(), takes("new", &log));
    let deadline = rig.retire(10);
    for connection in 100..200 {
        enqueue(&new, &test_event(connection, 1, None));
        enqueue(&new, &test_event(connection - 100, 2, None));
    }
    sleep(Duration::from_millis(1)).await;
    let told: Vec<_> = log.lock().iter().map(|(_, name)| name.0).collect();
    assert_eq!(told, (100..200).collect::<Vec<_>>(), "at once");
    rig.emptied().await;
    assert_eq!(Instant::now(), deadline, "the try that hangs is given up");
    assert_eq!(rig.letters.reasons(), vec![REMOVED; 100]);
    assert_eq!(log.lock().len(), 200, "their lanes go on");
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn a_retired_version_tries_on_with_shorter_waits_until_its_deadline() {
    let healthy_at = Instant::now() + Duration::from_secs(5);
    let answer = move |batch: Batch| {
        std::future::ready(if Instant::now() < healthy_at || batch[0].seq == 7 {
            Err(error(0, Retry::After(Duration::from_mins(1))))
        } else {
            Ok(())
        })
    };
    let rig = rig(&settings(), sink(answer));
    for connection in 0..10 {
        rig.enqueue(&test_event(connection, 1, None));
    }
    rig.enqueue(&test_event(10, 7, None));
    sleep(Duration::from_secs(1)).await;
    let deadline = rig.retire(9);
    // No other deadline prolongs it.
    rig.retire(90);
    rig.emptied().await;
    assert_eq!(Instant::now(), deadline);
    assert_eq!(rig.metrics.webhook_publish_total.get(), 10);
    assert_eq!(rig.letters.reasons(), [REMOVED]);
    // Of a sink that was removed, stragglers are dead letters too.
    rig.enqueue(&test_event(11, 1, None));
    rig.emptied().await;
    assert_eq!(rig.letters.reasons(), [REMOVED, REMOVED]);
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn who_waited_too_long_for_room_goes_to_the_newest_target() {
    let log = Log::default();
    let rig = rig(&settings(), hangs());
    let new = rig.reload(&settings(), takes("new", &log));
    let slot = rig.outlet.try_reserve(1).unwrap();
    let deadline = rig.retire(2);
    rig.enqueue(&test_event(1, 1, None));
    tokio::time::sleep_until(deadline + Duration::from_millis(1)).await;
    assert_eq!(rig.letters.reasons(), [REMOVED]);
    rig.outlet.enqueue(slot, test_event(1, 2, None));
    rig.emptied().await;
    assert_eq!(*log.lock(), [("new", (1, 2))]);
    drop(new);
}

#[tokio::test(start_paused = true)]
async fn a_version_comes_back_before_and_after_its_deadline() {
    let log = Log::default();
    let up = Arc::new(AtomicBool::new(false));
    let answer = {
        let (log, up) = (log.clone(), up.clone());
        move |batch: Batch| {
            let (log, up) = (log.clone(), up.clone());
            async move {
                if !up.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                log.lock().push(("old", name(&batch[0])));
                Ok(())
            }
        }
    };
    let rig = rig(&single(), sink(answer));
    rig.enqueue(&test_event(1, 1, None));
    rig.enqueue(&test_event(2, 1, None));
    sleep(Duration::from_millis(1)).await;
    let other = rig.reload(&single(), takes("other", &log));
    rig.retire(10);
    sleep(Duration::from_secs(9)).await;
    rig.delivery.activate(rig.outlet.version());
    sleep(Duration::from_secs(9)).await;
    assert!(rig.letters.reasons().is_empty(), "it no longer ends");
    // Once more, and this time it comes back too late for those that it had.
    rig.retire(10);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(rig.letters.reasons(), [REMOVED, REMOVED]);
    up.store(true, Ordering::SeqCst);
    rig.delivery.activate(rig.outlet.version());
    rig.enqueue(&test_event(1, 2, None));
    enqueue(&other, &test_event(1, 3, None));
    rig.emptied().await;
    assert_eq!(*log.lock(), [("old", (1, 2)), ("other", (1, 3))]);
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn a_version_ends_with_its_last_event_and_holder() {
    let alive = Arc::new(());
    let (open, gate) = tokio::sync::watch::channel(false);
    let held = || {
        let (alive, gate) = (alive.clone(), gate.clone());
        sink(move |_| {
            let (_alive, mut gate) = (alive.clone(), gate.clone());
            async move {
                let _ = gate.wait_for(|open| *open).await;
                Ok(())
            }
        })
    };
    let rig = rig(&settings(), hangs());
    let unused = rig
        .delivery
        .version(&settings(), held(), rig.letters.clone());
    let trace = unused.trace();
    drop(unused);
    assert!(trace.is_cold() && rig.delivery.find(&trace).is_none());
    assert_eq!(Arc::strong_count(&alive), 1, "without events at once");

    let outlet = rig.reload(&settings(), held());
    let trace = outlet.version().trace();
    enqueue(&outlet, &test_event(1, 1, None));
    sleep(Duration::from_millis(1)).await;
    drop(outlet);
    assert!(!trace.is_cold(), "its event is under way");
    let found = rig.delivery.find(&trace).unwrap();
    let again = rig.delivery.find(&trace).unwrap();
    assert!(Arc::ptr_eq(&found, &again));
    drop((found, again));
    open.send(true).unwrap();
    rig.emptied().await;
    tokio::task::yield_now().await;
    assert!(trace.is_cold() && rig.delivery.find(&trace).is_none());
    assert_eq!(Arc::strong_count(&alive), 1, "no worker keeps the sink");
    assert!(rig.idle());
}

#[tokio::test(start_paused = true)]
async fn the_newest_version_says_how_many_try_at_once() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let counts = || {
        let count = under_way.clone();
        sink(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::pending()
        })
    };
    let rig = rig(&settings(), counts());
    for connection in 0..100 {
        rig.enqueue(&test_event(connection, 1, None));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(under_way.load(Ordering::SeqCst), 4);
    let more = DeliverySettings {
        concurrency: 7,
        ..settings()
    };
    let new = rig.reload(&more, counts());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(under_way.load(Ordering::SeqCst), 7);
    for connection in 100..200 {
        enqueue(&new, &test_event(connection, 1, None));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(under_way.load(Ordering::SeqCst), 14, "each has its own");
}

#[tokio::test(start_paused = true)]
async fn workers_beyond_the_newest_number_go_away() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let answer = {
        let (under_way, most) = (under_way.clone(), most.clone());
        move |_| {
            let (under_way, most) = (under_way.clone(), most.clone());
            async move {
                let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        }
    };
    let rig = rig(&settings(), sink(answer));
    for connection in 0..20 {
        rig.enqueue(&test_event(connection, 1, None));
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(most.load(Ordering::SeqCst), 4);
    let _newest = rig.reload(&single(), hangs());
    sleep(Duration::from_millis(600)).await;
    most.store(0, Ordering::SeqCst);
    rig.emptied().await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert_eq!(rig.metrics.webhook_publish_total.get(), 20);
}

#[tokio::test(start_paused = true)]
async fn bounds_change_under_those_who_wait() {
    let bounds = |max_events, max_bytes| BufferConfig {
        max_events,
        max_bytes,
    };
    let rig = rig(
        &DeliverySettings {
            buffer: bounds(2, 100),
            ..settings()
        },
        hangs(),
    );
    let (outlet, delivery) = (&rig.outlet, &rig.delivery);
    let held = [40, 40].map(|bytes| outlet.try_reserve(bytes).unwrap());
    let mut waits = Box::pin(outlet.reserve(10));
    assert!(waits.as_mut().now_or_never().is_none());
    delivery.set_buffer(&bounds(3, 100));
    let third = waits.now_or_never().unwrap();
    drop(third);
    // Smaller than what is taken: nobody until it fits.
    delivery.set_buffer(&bounds(2, 50));
    assert!(outlet.try_reserve(0).is_none());
    let mut large = Box::pin(outlet.reserve(70));
    assert!(large.as_mut().now_or_never().is_none());
    let [first, second] = held;
    drop(first);
    assert!(
        large.as_mut().now_or_never().is_none(),
        "40 of 50 are taken"
    );
    drop(second);
    let mut large = large.now_or_never().unwrap();
    assert_eq!(large.bytes(), 50, "all there is now");
    large.pass_turn();
    delivery.set_buffer(&bounds(10, 1000));
    assert_eq!(outlet.try_reserve(950).unwrap().bytes(), 950);
    drop(large);
    assert!(rig.idle());
}
