//! A sink that nothing waits for, and one that lets events gather.

use super::*;

/// A sink that notes the size of each batch.
fn counting(sizes: &Arc<Mutex<Vec<usize>>>) -> BoxSink {
    let sizes = Arc::clone(sizes);
    sink(move |batch| {
        sizes.lock().push(batch.len());
        async { Ok(()) }
    })
}

#[tokio::test(start_paused = true)]
async fn what_finds_an_optional_sink_full_is_dropped_and_counted() {
    let rig = rig(
        &DeliverySettings {
            buffer: BufferConfig {
                max_events: 2,
                ..BufferConfig::default()
            },
            when_full: WhenFull::Drop,
            ..settings()
        },
        sink(|_| std::future::pending()),
    );
    for seq in 2..7 {
        rig.outlet.enqueue_or_drop(&test_event(1, seq, None));
    }
    assert_eq!(rig.metrics.archive_dropped_total.get(), 3);
    assert_eq!(rig.delivery.shared.room.taken().0, 2);
    assert!(rig.letters.0.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn events_gather_while_a_sink_lingers_and_a_full_batch_goes_at_once() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let rig = rig(
        &DeliverySettings {
            concurrency: 1,
            max_batch: 10,
            linger: Duration::from_millis(100),
            ..settings()
        },
        counting(&sizes),
    );
    let enqueue = |seqs: std::ops::Range<u64>| {
        for seq in seqs {
            rig.enqueue(&test_event(1, seq, None));
        }
    };
    enqueue(2..3);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(*sizes.lock(), [1], "the first goes at once");
    enqueue(3..28);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!(*sizes.lock(), [1]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(*sizes.lock(), [1, 10, 10, 5]);
    enqueue(28..30);
    let drained = rig
        .delivery
        .drain(Instant::now() + Duration::from_millis(1));
    assert_eq!(drained.await.lost, 0, "a drain does not linger");
    assert_eq!(*sizes.lock(), [1, 10, 10, 5, 2]);
    assert!(rig.idle());
}
