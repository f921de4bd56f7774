//! The few threads that access the disk, for all partitions, so that a disk that hangs blocks no other thread.
//!
//! They are not the runtime's blocking threads: a runtime waits for those when it ends, and a disk that
//! does not answer would keep the process from ending.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Maximum number of jobs that wait for a thread. More jobs wait only if the disk does not answer.
const WAITING_MAX: usize = 4_096;

type Job = Box<dyn FnOnce() + Send>;

/// Some threads and their queue. They end once the last clone is dropped and the queue is empty.
#[derive(Clone)]
pub(super) struct Threads {
    queue: Arc<Queue>,
    _open: Arc<CloseOnDrop>,
}

/// Why a job gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It took longer than its time-out.
    TimedOut(Duration),
    /// Too many jobs wait already.
    QueueFull,
    /// It panicked.
    Panicked,
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut(after) => write!(f, "no answer from the disk within {after:?}"),
            Self::QueueFull => write!(f, "{WAITING_MAX} operations wait for the disk already"),
            Self::Panicked => f.write_str("the operation panicked"),
        }
    }
}

/// Whether the caller still waits for the answer of a job.
pub(super) struct Caller<T>(oneshot::Sender<T>);

impl<T> Caller<T> {
    /// Whether the answer is no longer wanted.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Job)>,
    /// By thread: when its current job was submitted.
    running: Vec<Option<Instant>>,
    is_closed: bool,
}

struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn start(name: &str, count: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let threads = Self {
            queue: queue.clone(),
            _open: Arc::new(CloseOnDrop(queue.clone())),
        };
        queue.lock().running = vec![None; count];
        for index in 0..count {
            let queue = queue.clone();
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || queue.work(index))?;
        }
        Ok(threads)
    }

    /// Runs `work` on a thread and returns its answer. `work` can check whether its caller still waits, and is
    /// not run at all if the caller is gone before its turn.
    pub async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Caller<T>) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (sender, answer) = oneshot::channel();
        let caller = Caller(sender);
        self.queue.push(Box::new(move || {
            if !caller.is_gone() {
                let answer = work(&caller);
                // This fails if the caller is gone.
                let _ = caller.0.send(answer);
            }
        }))?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(NoAnswer::Panicked),
            Err(_) => Err(NoAnswer::TimedOut(timeout)),
        }
    }

    /// Age of the oldest unfinished job; `None`: every job is finished.
    pub fn unanswered_for(&self) -> Option<Duration> {
        let state = self.queue.lock();
        let waiting = state.waiting.front().map(|(since, _)| *since);
        let running = state.running.iter().flatten().copied();
        running.chain(waiting).min().map(|since| since.elapsed())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn push(&self, job: Job) -> Result<(), NoAnswer> {
        let mut state = self.lock();
        if state.waiting.len() >= WAITING_MAX {
            return Err(NoAnswer::QueueFull);
        }
        state.waiting.push_back((Instant::now(), job));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn work(&self, index: usize) {
        while let Some(job) = self.next(index) {
            // The caller notices that its answer can't come.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("an operation of the state store panicked");
            }
            self.lock().running[index] = None;
        }
    }

    /// The next job; `None` once the queue is closed and empty.
    fn next(&self, index: usize) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((since, job)) = state.waiting.pop_front() {
                state.running[index] = Some(since);
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).expect("no holder panics");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    const LONG_ENOUGH: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_job_runs_on_a_thread_of_the_store() {
        let threads = Threads::start("of the store", 1).unwrap();
        let name = |_: &Caller<_>| std::thread::current().name().map(str::to_owned);
        let name = threads.run(LONG_ENOUGH, name).await.unwrap();
        assert_eq!(name.as_deref(), Some("of the store"));
        // The answer comes a moment before the thread has finished the job.
        while threads.unanswered_for().is_some() {
            std::thread::yield_now();
        }
    }

    /// Occupies a thread until the result is dropped.
    async fn hang(threads: &Threads) -> mpsc::Sender<()> {
        let (start, started) = oneshot::channel();
        let (release, held) = mpsc::channel::<()>();
        let job = move |_: &Caller<()>| {
            start.send(()).unwrap();
            let _ = held.recv();
        };
        let (hung, _) = tokio::join!(threads.run(LONG_ENOUGH, job), async {
            started.await.unwrap();
            // The clock jumps to the time-out only now, so the job has started.
            tokio::time::pause();
        });
        assert_eq!(hung, Err(NoAnswer::TimedOut(LONG_ENOUGH)));
        release
    }

    #[tokio::test]
    async fn a_job_that_hangs_times_out_and_is_reported_until_it_ends() {
        let threads = Threads::start("store", 1).unwrap();
        let release = hang(&threads).await;
        assert!(threads.unanswered_for().is_some());

        // The only thread is busy, so the caller of this job is gone before its turn.
        let was_called = Arc::new(AtomicBool::new(false));
        let called = was_called.clone();
        let late = threads
            .run(LONG_ENOUGH, move |_| called.store(true, Ordering::SeqCst))
            .await;
        assert_eq!(late, Err(NoAnswer::TimedOut(LONG_ENOUGH)));
        drop(release);
        tokio::time::resume();
        threads.run(LONG_ENOUGH, |_| ()).await.unwrap();
        assert!(!was_called.load(Ordering::SeqCst), "its caller was gone");
    }

    #[tokio::test]
    async fn a_thread_outlives_a_job_that_panics() {
        let threads = Threads::start("store", 1).unwrap();
        let panicked = threads.run(LONG_ENOUGH, |_: &Caller<()>| panic!("a test"));
        assert_eq!(panicked.await, Err(NoAnswer::Panicked));
        assert_eq!(threads.run(LONG_ENOUGH, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let threads = Threads::start("store", 1).unwrap();
        let release = hang(&threads).await;
        let mut last = Ok(());
        for _ in 0..=WAITING_MAX {
            last = threads.run(Duration::ZERO, |_| ()).await;
        }
        assert_eq!(last, Err(NoAnswer::QueueFull));
        drop(release);
    }
}
