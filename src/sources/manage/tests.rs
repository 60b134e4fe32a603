use parking_lot::Mutex;

use super::*;

type Told = Arc<Mutex<Vec<String>>>;

struct Fake {
    name: &'static str,
    place: &'static str,
    reads: bool,
    told: Told,
}

impl Feed for Fake {
    type Left = &'static str;

    fn lag(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(std::future::ready(None))
    }

    fn relation(&self, running: &Self) -> Relation {
        if self.name == running.name {
            Relation::Same
        } else if self.place == running.place {
            Relation::Continues
        } else {
            Relation::Other
        }
    }

    fn announce(&self) {
        self.told.lock().push(format!("{} announced", self.name));
    }

    fn run(self: Arc<Self>, run: Run<Self::Left>) -> RunFuture<Self::Left> {
        Box::pin(async move {
            let from = run.from.unwrap_or("nowhere");
            self.told.lock().push(format!("{} from {from}", self.name));
            run.reads.send_replace(self.reads);
            run.stop.cancelled().await;
            self.told.lock().push(format!("{} ended", self.name));
            self.name
        })
    }
}

struct Test {
    wanted: watch::Sender<Wanted<Fake>>,
    stop: CancellationToken,
    told: Told,
    task: JoinHandle<()>,
}

impl Test {
    fn start() -> Self {
        let (wanted, receiver) = watch::channel(None);
        let stop = CancellationToken::new();
        let task = tokio::spawn(manage(receiver, stop.clone()));
        Self {
            wanted,
            stop,
            told: Told::default(),
            task,
        }
    }

    async fn want(&self, name: &'static str, place: &'static str, reads: bool) {
        let feed = Fake {
            name,
            place,
            reads,
            told: Arc::clone(&self.told),
        };
        self.wanted.send_replace(Some(Arc::new(feed)));
        self.settle().await;
    }

    async fn settle(&self) {
        tokio::time::sleep(OVERLAP * 2).await;
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock())
    }
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_goes_on() {
    let test = Test::start();
    test.want("a", "p", true).await;
    test.want("a", "p", true).await;
    assert_eq!(test.told(), ["a from nowhere"]);
    test.stop.cancel();
    test.task.await.unwrap();
    assert_eq!(*test.told.lock(), ["a ended"]);
}

#[tokio::test(start_paused = true)]
async fn in_the_same_place_the_next_goes_on_where_the_last_stopped() {
    let test = Test::start();
    test.want("a", "p", true).await;
    test.want("b", "p", true).await;
    assert_eq!(test.told(), ["a from nowhere", "a ended", "b from a"]);
}

#[tokio::test(start_paused = true)]
async fn in_another_place_the_next_reads_before_the_last_stops() {
    let test = Test::start();
    test.want("a", "p", true).await;
    test.want("b", "q", true).await;
    assert_eq!(test.told(), ["a from nowhere", "b from nowhere", "a ended"]);
    test.want("c", "r", false).await;
    assert_eq!(test.told(), ["c from nowhere", "b ended", "c announced"]);
    test.wanted.send_replace(None);
    test.settle().await;
    assert_eq!(test.told(), ["c ended"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_no_more_when_its_turn_comes_is_never_begun() {
    let test = Test::start();
    let wanted = |name, place| {
        test.wanted.send_replace(Some(Arc::new(Fake {
            name,
            place,
            reads: true,
            told: Arc::clone(&test.told),
        })));
    };
    wanted("a", "p");
    test.settle().await;
    wanted("b", "q");
    wanted("a", "p");
    test.settle().await;
    assert_eq!(test.told(), ["a from nowhere"]);
}
