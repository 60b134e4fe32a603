//! Random traffic against every promise of order, while versions come, end and come back.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;

use super::order::{Seen, Traffic, assert_order, quieten};
use super::versions::enqueue;
use super::*;

/// Plays random traffic through a delivery that is reloaded at random, with targets that fail, hang and come back.
#[expect(
    clippy::too_many_lines,
    clippy::similar_names,
    reason = "one play is one story"
)]
async fn play(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let owner: Arc<Mutex<std::collections::HashMap<Name, usize>>> = Arc::default();
    let make = |number: usize, dice: &mut StdRng| {
        let (failing, hanging) = match dice.random_range(0..4) {
            0 => (0.0, 1.0),
            1 => (0.5, 0.05),
            _ => (0.2, 0.0),
        };
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(dice.random())));
        let (seen, owner) = (seen.clone(), owner.clone());
        sink(move |batch: Batch| {
            let (seen, owner, random) = (seen.clone(), owner.clone(), random.clone());
            async move {
                for event in batch.iter() {
                    assert_eq!(owner.lock()[&name(event)], number, "seed {seed}");
                    seen.lock().push(Seen::Started(name(event)));
                }
                let (pause, fails, hangs, panics, delivered) = {
                    let mut dice = random.lock();
                    (
                        dice.random_range(0..50),
                        dice.random_bool(failing),
                        dice.random_bool(hanging),
                        dice.random_bool(0.1),
                        dice.random_range(0..batch.len()),
                    )
                };
                if hangs {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_millis(pause)).await;
                let count = if fails { delivered } else { batch.len() };
                let ended = batch[..count].iter().map(|e| Seen::Ended(name(e)));
                if fails && panics {
                    std::panic::panic_any("a panic that the delivery must survive");
                }
                seen.lock().extend(ended);
                if fails {
                    return Err(error(delivered, Retry::Backoff));
                }
                Ok(())
            }
        })
    };
    let letters = Arc::new(EndedLetters {
        seen: seen.clone(),
        names: Mutex::default(),
    });
    let metrics = Metrics::new().unwrap();
    let random_settings = |dice: &mut StdRng| DeliverySettings {
        concurrency: dice.random_range(1..=4),
        max_batch: dice.random_range(1..=8),
        ..settings()
    };
    let first = random_settings(&mut dice);
    let service = make(0, &mut dice);
    let mut outlets = vec![Outlet::start(&first, service, letters.clone(), &metrics)];
    let delivery = Arc::clone(outlets[0].delivery());
    let mut made = 1;
    let mut numbers = vec![0];
    let receipts = Arc::new(Counted::default());
    let mut traffic = Traffic::default();
    let mut pushed: Vec<Arc<Event>> = Vec::new();
    while let Some(event) = traffic.next(&mut dice) {
        if dice.random_bool(0.05) {
            let deadline = Instant::now() + Duration::from_millis(dice.random_range(0..2000));
            let newest = outlets.len() - 1;
            if outlets.len() > 1 && dice.random_bool(0.3) {
                // The generation before comes back.
                delivery.retire(outlets[newest].version(), deadline);
                outlets.swap(newest - 1, newest);
                numbers.swap(newest - 1, newest);
                delivery.activate(outlets[newest].version());
            } else {
                let service = make(made, &mut dice);
                let version =
                    delivery.version(&random_settings(&mut dice), service, letters.clone());
                delivery.activate(&version);
                delivery.retire(outlets[newest].version(), deadline);
                outlets.push(Outlet::new(Arc::clone(&delivery), version));
                numbers.push(made);
                made += 1;
            }
            if outlets.len() > 3 {
                outlets.remove(0);
                numbers.remove(0);
            }
        }
        // Now and then one that has not noticed the reload.
        let newest = outlets.len() - 1;
        let by = newest - usize::from(newest > 0 && dice.random_bool(0.2));
        let mut event = Arc::into_inner(event).unwrap();
        event.receipt = Some(receipts.clone());
        let event = Arc::new(event);
        // As `push` has it.
        let stale = {
            let mut state = delivery.shared.state.lock();
            state
                .schedule
                .queue(outlets[by].version().line.index)
                .expired
        };
        let number = numbers[if stale { newest } else { by }];
        owner.lock().insert(name(&event), number);
        letters.names.lock().insert(event.id, name(&event));
        enqueue(&outlets[by], &event);
        pushed.push(event);
        if dice.random_bool(0.1) {
            sleep(Duration::from_millis(dice.random_range(0..300))).await;
        }
    }
    // Where nothing ends what hangs, the end of all does.
    delivery.retire(
        outlets[outlets.len() - 1].version(),
        Instant::now() + Duration::from_mins(10),
    );
    for outlet in &outlets {
        let soon = Instant::now() + Duration::from_secs(1);
        delivery.retire(outlet.version(), soon);
    }
    drop(outlets);
    delivery.wait_until_idle().await;
    assert_order(seed, &pushed, &seen.lock());
    let (told, refused) = *receipts.0.lock();
    assert_eq!(told + refused, pushed.len(), "seed {seed}: each once");
    assert_eq!(refused, letters.names.lock().len().abs_diff(pushed.len()));
    sleep(Duration::from_millis(1)).await;
    let state = delivery.shared.state.lock();
    assert!(state.schedule.is_bare(), "seed {seed}: memory is left");
    assert_eq!(
        state.schedule.versions(),
        0,
        "seed {seed}: versions are left"
    );
    assert_eq!(delivery.shared.room.taken(), (0, 0));
}

/// Notes dead letters as the ends of their events, and forgets their names.
struct EndedLetters {
    seen: Arc<Mutex<Vec<Seen>>>,
    names: Mutex<std::collections::HashMap<Uuid, Name>>,
}

impl DeadLetters for EndedLetters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        assert_eq!(letter.reason, REMOVED);
        let name = self.names.lock().remove(&letter.event_id.unwrap()).unwrap();
        self.seen.lock().push(Seen::Ended(name));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Counts what was delivered, and what was not.
#[derive(Default)]
struct Counted(Mutex<(usize, usize)>);

impl crate::event::Receipt for Counted {
    fn delivered(&self, _sink: &'static str) {
        self.0.lock().0 += 1;
    }

    fn failed(&self, _sink: &'static str, reason: &str) {
        assert_eq!(reason, REMOVED);
        self.0.lock().1 += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn order_holds_whatever_is_reloaded() {
    let quiet = quieten();
    for seed in 0..300 {
        play(seed).await;
    }
    std::panic::set_hook(quiet);
}
