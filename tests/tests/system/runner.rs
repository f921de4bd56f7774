//! Runs the tests: several at the same time, each with a deployment of its own or with a shared one. A
//! failure shows the ends of the logs.

use crate::{import, requests};
use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use system_tests::{Deployment, deployment::log_tails};
use tokio::runtime::Runtime;

/// Tests that run at the same time if `--test-threads` is not given. Most of them wait most of the time: for
/// sessions to expire, for servers, and for readiness.
const TESTS_AT_ONCE: usize = 5;
/// Tests whose times are printed.
const SLOWEST_SHOWN: usize = 12;

/// A running test. It stays on the thread that blocks on it.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Runs tests on one runtime, because shared nodes belong to it.
pub struct Runner {
    arguments: Arguments,
    runtime: Arc<Runtime>,
    times: Arc<Mutex<Vec<(Duration, String)>>>,
}

/// Tests with a deployment of their own: functions of a module that take `&Deployment`.
macro_rules! own {
    ($runner:expr, $module:ident: [$($test:ident),* $(,)?]) => {
        [$($runner.own(stringify!($module), stringify!($test), |deployment| {
            Box::pin($module::$test(deployment))
        })),*]
    };
}

/// Tests with a shared deployment: functions of a module that take nothing.
macro_rules! shared {
    ($runner:expr, $module:ident: [$($test:ident),* $(,)?]) => {
        [$($runner.shared(stringify!($module), stringify!($test), || {
            Box::pin($module::$test())
        })),*]
    };
}

pub(crate) use {own, shared};

impl Runner {
    /// Reads the program's arguments, which are the same as those of any test program.
    pub fn new() -> Self {
        let mut arguments = Arguments::from_args();
        arguments.test_threads.get_or_insert(TESTS_AT_ONCE);
        Self {
            arguments,
            runtime: Arc::new(Runtime::new().expect("the operating system has threads")),
            times: Arc::default(),
        }
    }

    /// Runs the tests and stops the shared deployments.
    pub fn run(self, tests: impl FnOnce(&Self) -> Vec<Trial>) -> ExitCode {
        let trials = tests(&self);
        let is_chosen = |trial: &Trial| !self.arguments.is_filtered_out(trial);
        let needs_import = trials
            .iter()
            .any(|trial| trial.kind() == "import" && is_chosen(trial));
        if needs_import && !self.arguments.list {
            // The import takes longest to prepare, so it begins at once, in parallel with other tests.
            let runtime = self.runtime.clone();
            // If it fails, each test that needs it fails.
            std::thread::spawn(move || runtime.block_on(import::imported()).is_ok());
        }
        let conclusion = libtest_mimic::run(&self.arguments, trials);
        self.runtime.block_on(async {
            import::IMPORTED.stop().await;
            requests::REFUSING.stop().await;
        });
        self.print_slowest();
        conclusion.exit_code()
    }

    /// A test with a deployment of its own.
    pub fn own(
        &self,
        module: &str,
        name: &str,
        test: impl for<'a> FnOnce(&'a Deployment) -> Running<'a> + Send + 'static,
    ) -> Trial {
        let folder = name.to_owned();
        self.trial(module, name, folder.clone(), move || {
            Box::pin(async move {
                let deployment = Deployment::new(&folder)?;
                test(&deployment).await
            })
        })
    }

    /// A test with a shared deployment.
    pub fn shared(
        &self,
        module: &str,
        name: &str,
        test: impl FnOnce() -> Running<'static> + Send + 'static,
    ) -> Trial {
        let deployment = match module {
            "requests" => "requests",
            _ => "import",
        };
        self.trial(module, name, deployment.to_owned(), test)
            .with_kind(deployment)
    }

    fn trial(
        &self,
        module: &str,
        name: &str,
        folder: String,
        test: impl FnOnce() -> Running<'static> + Send + 'static,
    ) -> Trial {
        let (runtime, times) = (self.runtime.clone(), self.times.clone());
        let name = format!("{module}::{name}");
        Trial::test(name.clone(), move || {
            let started = Instant::now();
            let outcome = runtime.block_on(test());
            let mut times = times.lock().expect("no holder of this lock panics");
            times.push((started.elapsed(), name));
            drop(times);
            outcome.map_err(|error| {
                let tails = log_tails(&folder).context("the logs can't be read");
                let tails = tails.unwrap_or_else(|error| format!("{error:#}"));
                Failed::from(format!("{error:#}\n{tails}"))
            })
        })
    }

    fn print_slowest(&self) {
        let mut times = self.times.lock().expect("no holder of this lock panics");
        times.sort();
        for (time, name) in times.iter().rev().take(SLOWEST_SHOWN) {
            println!("slow: {:5.1} s  {name}", time.as_secs_f64());
        }
    }
}
