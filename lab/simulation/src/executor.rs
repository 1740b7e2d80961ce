//! A deterministic executor: it polls one future per request, and draws the order of those that are ready.
//!
//! The broker needs no particular runtime. It waits on channels, a mutex and timers, so an executor over the world's
//! event queue is enough. The alternatives were:
//!
//! | alternative | why not |
//! | --- | --- |
//! | `turmoil`, `madsim` | they bring their own network, clock and runtime. Here the event queue decides every effect by true time, for the broker and the baselines alike |
//! | `shuttle` | it explores orders without time, and needs the broker built against its own mutexes and channels instead of tokio's |
//! | tokio's paused clock | it polls in the order of waking, has one clock for all instances, and cannot stop or kill one of them |
//!
//! This executor polls only woken tasks, can stop and kill single processes, and stays determined by the seed.

use fastrand::Rng;
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Sorted by name: the channels of tokio wake several waiters in an order that no seed determines.
type ReadyTasks<I> = Arc<Mutex<BTreeSet<I>>>;

/// Futures by the name of their task.
pub struct Executor<I, T> {
    tasks: BTreeMap<I, Task<I, T>>,
    ready: ReadyTasks<I>,
}

struct Task<I, T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    alarm: Arc<Alarm<I>>,
}

/// Adds its task to the ready ones, once until it is polled.
struct Alarm<I> {
    task: I,
    is_ready: AtomicBool,
    ready: ReadyTasks<I>,
}

/// The result of polling a task.
pub enum Polled<T> {
    /// It waits for something.
    Pending,
    /// It has ended.
    Done(T),
    /// It panicked, and its future is dropped.
    Panicked(Box<dyn Any + Send>),
}

impl<I: Copy + Ord + Send + Sync + 'static, T> Executor<I, T> {
    /// Adds a task, which is ready at once. No other task may have its name.
    pub fn spawn(&mut self, task: I, future: impl Future<Output = T> + Send + 'static) {
        let alarm =
            Arc::new(Alarm { task, is_ready: AtomicBool::new(false), ready: Arc::clone(&self.ready) });
        alarm.wake_by_ref();
        self.tasks.insert(task, Task { future: Box::pin(future), alarm });
    }

    /// Takes one of the ready tasks.
    pub fn next_ready(&mut self, rng: &mut Rng) -> Option<I> {
        let mut ready = lock(&self.ready);
        let index = match ready.len() {
            0 => return None,
            1 => 0,
            several => rng.usize(..several),
        };
        let task = *ready.iter().nth(index)?;
        ready.remove(&task);
        Some(task)
    }

    /// Returns a task from [`Self::next_ready`], for later.
    pub fn put_back(&mut self, task: I) {
        lock(&self.ready).insert(task);
    }

    /// Polls a task. One that has ended or was cancelled is pending.
    pub fn poll(&mut self, name: I) -> Polled<T> {
        let Some(task) = self.tasks.get_mut(&name) else { return Polled::Pending };
        task.alarm.is_ready.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.alarm));
        let mut context = Context::from_waker(&waker);
        let future = task.future.as_mut();
        match catch_unwind(AssertUnwindSafe(|| future.poll(&mut context))) {
            Ok(Poll::Pending) => Polled::Pending,
            Ok(Poll::Ready(output)) => {
                self.tasks.remove(&name);
                Polled::Done(output)
            }
            Err(panic) => {
                self.tasks.remove(&name);
                Polled::Panicked(panic)
            }
        }
    }

    /// Drops the future of a task in mid-run.
    pub fn cancel(&mut self, task: I) {
        self.tasks.remove(&task);
    }

    /// Whether no task is left.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

impl<I, T> Default for Executor<I, T> {
    fn default() -> Self {
        Self { tasks: BTreeMap::new(), ready: ReadyTasks::default() }
    }
}

impl<I: Copy + Ord + Send + Sync> Wake for Alarm<I> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            lock(&self.ready).insert(self.task);
        }
    }
}

fn lock<I>(ready: &Mutex<BTreeSet<I>>) -> MutexGuard<'_, BTreeSet<I>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn only_woken_tasks_are_polled() {
        let (mut executor, mut rng) = (Executor::default(), Rng::with_seed(1));
        let (sender, receiver) = oneshot::channel();
        executor.spawn(1, async move { receiver.await.unwrap_or(0) });
        assert_eq!(executor.next_ready(&mut rng), Some(1));
        assert!(matches!(executor.poll(1), Polled::Pending));
        assert_eq!(executor.next_ready(&mut rng), None);
        sender.send(7).unwrap();
        assert_eq!(executor.next_ready(&mut rng), Some(1));
        assert!(matches!(executor.poll(1), Polled::Done(7)));
        assert!(executor.is_empty());
    }

    #[test]
    fn a_seed_gives_one_order_and_seeds_give_several() {
        let order = |seed| {
            let (mut executor, mut rng) = (Executor::default(), Rng::with_seed(seed));
            (0..5).for_each(|task| executor.spawn(task, async {}));
            std::iter::from_fn(|| executor.next_ready(&mut rng)).collect::<Vec<u32>>()
        };
        assert_eq!(order(1), order(1));
        assert!((2..9).any(|seed| order(seed) != order(1)));
    }

    #[test]
    fn the_order_of_waking_does_not_matter() {
        let order = |woken: [usize; 5]| {
            let (mut executor, mut rng) = (Executor::default(), Rng::with_seed(1));
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..5).map(|_| oneshot::channel::<()>()).unzip();
            for (task, receiver) in receivers.into_iter().enumerate() {
                executor.spawn(task, receiver);
            }
            while let Some(task) = executor.next_ready(&mut rng) {
                assert!(matches!(executor.poll(task), Polled::Pending));
            }
            let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
            for task in woken {
                senders[task].take().unwrap().send(()).unwrap();
            }
            std::iter::from_fn(|| executor.next_ready(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(order([0, 1, 2, 3, 4]), order([3, 1, 4, 0, 2]));
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        let mut executor = Executor::default();
        executor.spawn(1, async { std::panic::resume_unwind(Box::new("planned")) });
        executor.spawn(2, async { 2 });
        assert!(matches!(executor.poll(1), Polled::Panicked(_)));
        assert!(matches!(executor.poll(1), Polled::Pending), "it is gone");
        assert!(matches!(executor.poll(2), Polled::Done(2)));
    }
}
