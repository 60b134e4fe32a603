//! Random traffic against every promise of order.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// What one run of random traffic did, in the order in which it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seen {
    Started(Name),
    Ended(Name),
}

/// Some events of a batch fail, some are not tried; gives also those that count as delivered, which are the tried
/// ones up to their lane's first failure.
fn scattered_failure(batch: &Batch, dice: &mut StdRng) -> (Vec<usize>, DeliveryError) {
    let tried = dice.random_range(1..=batch.len());
    let failed: Vec<usize> = (0..tried).filter(|_| dice.random_bool(0.3)).collect();
    let lane = |event: &Event| match &event.ordering_key {
        Some(key) => (Some(Arc::clone(key)), None),
        None => (None, Some(event.connection_id)),
    };
    // The last one counts, so that going backwards leaves each lane's first.
    let first_failure: HashMap<_, usize> = failed
        .iter()
        .rev()
        .map(|index| (lane(&batch[*index]), *index))
        .collect();
    let delivered = (0..tried)
        .filter(|index| {
            first_failure
                .get(&lane(&batch[*index]))
                .is_none_or(|first| index < first)
        })
        .collect();
    let failures = failed
        .into_iter()
        .map(|index| crate::sinks::Failure::new(index, "HTTP 503", Retry::Backoff));
    let failed = failures.collect();
    (delivered, DeliveryError { failed, tried })
}

#[expect(
    clippy::similar_names,
    clippy::unnecessary_literal_unwrap,
    reason = "one play is one story"
)]
/// Plays random traffic through a sink that fails and dawdles at random, and checks every promise.
async fn play(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let max_batch = dice.random_range(1..=16);
    let failing = dice.random_range(0.0..0.5);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let under_way = Arc::new(AtomicUsize::new(0));
    let concurrency = dice.random_range(1..=8);
    let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed ^ 1)));
    let service = {
        let (seen, under_way) = (seen.clone(), under_way.clone());
        sink(move |batch| {
            let (seen, under_way) = (seen.clone(), under_way.clone());
            let random = random.clone();
            async move {
                assert!(batch.len() <= max_batch);
                assert!(under_way.fetch_add(1, Ordering::SeqCst) < concurrency);
                let (pause, fate, ended, scattered) = {
                    let mut dice = random.lock();
                    let fate: f64 = dice.random();
                    let ended = dice.random_range(0..batch.len());
                    let scattered = scattered_failure(&batch, &mut dice);
                    (dice.random_range(0..50), fate, ended, scattered)
                };
                for event in batch.iter() {
                    seen.lock().push(Seen::Started(name(event)));
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
                under_way.fetch_sub(1, Ordering::SeqCst);
                let all = (0..batch.len()).collect();
                let (ended, result): (Vec<usize>, _) = if fate >= failing {
                    (all, Ok(()))
                } else if fate < failing / 8.0 {
                    (all, None.expect("a panic that the delivery must survive"))
                } else if fate < failing / 4.0 {
                    ((0..=ended).collect(), Err(error(ended, Retry::Never)))
                } else if fate < failing / 2.0 {
                    ((0..ended).collect(), Err(error(ended, Retry::Backoff)))
                } else {
                    (scattered.0, Err(scattered.1))
                };
                for index in ended {
                    seen.lock().push(Seen::Ended(name(&batch[index])));
                }
                result
            }
        })
    };
    let rig = rig(
        &DeliverySettings {
            concurrency,
            max_batch,
            ..settings()
        },
        service,
    );

    let mut traffic = Traffic::default();
    let mut pushed: Vec<Arc<Event>> = Vec::new();
    while let Some(event) = traffic.next(&mut dice) {
        rig.enqueue(&event);
        pushed.push(event);
        if dice.random_bool(0.1) {
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..300))).await;
        }
    }
    rig.emptied().await;

    assert_order(seed, &pushed, &seen.lock());
    assert!(rig.idle(), "seed {seed}: memory is left behind");
}

/// Twenty connections that take turns at random; keys are shared between them.
#[derive(Default)]
pub(super) struct Traffic {
    open: Vec<(u128, u64)>,
    connections: u128,
}

impl Traffic {
    pub(super) fn next(&mut self, dice: &mut StdRng) -> Option<Arc<Event>> {
        let Self { open, connections } = self;
        if *connections < 20 && (open.len() < 2 || dice.random_bool(0.2)) {
            *connections += 1;
            open.push((*connections, 0));
        } else if open.is_empty() {
            return None;
        }
        let turn = dice.random_range(0..open.len());
        let (connection, seq) = &mut open[turn];
        *seq += 1;
        let key = format!("key:{}", dice.random_range(0..4));
        let keyed = *seq > 1 && dice.random_bool(0.6);
        let ends = *seq > 1 && dice.random_bool(0.1);
        let event = if ends {
            test_event(*connection, u64::MAX, None)
        } else {
            test_event(*connection, *seq, keyed.then_some(key.as_str()))
        };
        if ends {
            open.swap_remove(turn);
        }
        Some(event)
    }
}

/// Checks that each event ended once, and in the order of its lane and connection.
#[expect(clippy::similar_names, reason = "a seed, and what was seen")]
pub(super) fn assert_order(seed: u64, pushed: &[Arc<Event>], seen: &[Seen]) {
    let mut started_at: HashMap<Name, usize> = HashMap::new();
    let mut ended_at: HashMap<Name, usize> = HashMap::new();
    for (at, seen) in seen.iter().enumerate() {
        match seen {
            Seen::Started(name) => {
                started_at.entry(*name).or_insert(at);
            }
            Seen::Ended(name) => {
                let before = ended_at.insert(*name, at);
                assert!(before.is_none(), "seed {seed}: {name:?} ended twice");
            }
        }
    }
    assert_eq!(ended_at.len(), pushed.len(), "seed {seed}: events are lost");
    for (at, event) in pushed.iter().enumerate() {
        for earlier in &pushed[..at] {
            let same_connection = earlier.connection_id == event.connection_id;
            let same_lane = match (&earlier.ordering_key, &event.ordering_key) {
                (None, None) => same_connection,
                (earlier, key) => earlier == key,
            };
            let tied = same_connection
                && (earlier.kind == EventKind::Connected || event.kind == EventKind::Disconnected);
            if same_lane || tied {
                let (before, after) = (ended_at[&name(earlier)], ended_at[&name(event)]);
                assert!(
                    before < after,
                    "seed {seed}: {earlier:?} ended after {event:?}"
                );
            }
            // What became a dead letter untried never started.
            if tied && let Some(started) = started_at.get(&name(event)) {
                assert!(
                    ended_at[&name(earlier)] < *started,
                    "seed {seed}: {event:?} started before {earlier:?} ended"
                );
            }
        }
    }
}

type Hook = Box<dyn Fn(&std::panic::PanicHookInfo<'_>) + Send + Sync>;

/// Keeps the panics that a test provokes out of its output; gives the hook to put back.
pub(super) fn quieten() -> Hook {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string();
        if !text.contains("a panic that the delivery must survive") {
            eprintln!("{text}");
        }
    }));
    quiet
}

#[tokio::test(start_paused = true)]
async fn order_holds_whatever_fails() {
    let quiet = quieten();
    for seed in 0..300 {
        play(seed).await;
    }
    std::panic::set_hook(quiet);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_refuses_everything_is_asked_once_about_each_event() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let rig = rig(
        &DeliverySettings {
            concurrency: 2,
            max_batch: 64,
            ..settings()
        },
        sink(move |batch| {
            count.fetch_add(batch.len(), Ordering::SeqCst);
            // The last of a batch is taken, which its lane's next try then is not to repeat.
            let refused = batch.len().saturating_sub(1).max(1);
            let mut error = DeliveryError::all(refused, "unroutable", Retry::Never);
            error.tried = batch.len();
            std::future::ready(Err(error))
        }),
    );
    for seq in 2..=100 {
        rig.enqueue(&test_event(1, seq, None));
        rig.enqueue(&test_event(2, seq, Some("key")));
    }
    rig.emptied().await;
    let letters = rig.letters.0.lock();
    let of = |connection: u32| -> Vec<_> {
        let prefix = format!("{{\"connection\":{connection},");
        let raws = letters
            .iter()
            .map(|letter| String::from_utf8_lossy(&letter.raw));
        raws.filter(|raw| raw.starts_with(&prefix))
            .map(String::from)
            .collect()
    };
    for connection in [1, 2] {
        let left = of(connection);
        let mut expected: Vec<_> = (2..=100)
            .map(|seq| format!("{{\"connection\":{connection},\"seq\":{seq}}}"))
            .collect();
        expected.retain(|raw| left.contains(raw));
        assert_eq!(left, expected, "in their order");
    }
    let again = asked.load(Ordering::SeqCst) - 198;
    assert!(again <= 8, "{again} asked about again");
    drop(letters);
    assert!(rig.idle());
}
