//! Several workers that measure at the same time. One thread receives their results, keeps the journal and tells the
//! strategy. Variants that are the same program are measured once, and one worker measures the finals.
//!
//! Longer than 400 lines: the pool and the desk that deals out its work share their state.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use kbench_runtime::driver::threads;

use super::asker::Learned;
use super::pipeline::Pipeline;
use super::search::{Search, Tried, learned};
use crate::evaluate::{Prepared, Subject, prepare, yardstick_job};
use crate::gates::performance::time;
use crate::harness::{Candidate, DeviceTimes, Event, Harness, Notice, Reporter, RunError, caught};
use crate::process::executor::{Executor, WorkerOptions};
use crate::record::conclusion::Stopped;
use crate::record::evaluation::Evaluation;
use calibration::{Calibration, ROUNDS};
use station::{Backoff, Said, Station, Task};

pub use plan::plan;

mod calibration;
mod examine;
mod plan;
mod station;

/// The workers of a search.
pub(super) struct Pool<'a> {
    stations: Vec<Station<'a>>,
    backoff: Backoff,
    /// Speeds of the workers, once they were compared.
    calibration: Option<Calibration>,
}

impl<'a> Pool<'a> {
    /// Workers that start with the search; the first one takes over the harness's own.
    pub(super) fn new(harness: &mut Harness<'a>, workers: &[WorkerOptions]) -> Self {
        let mut stations = Vec::new();
        for (at, options) in workers.iter().enumerate() {
            let mut executor = harness.worker.beside(options.clone());
            let name = station::name(at, options, &harness.worker);
            if at == 0 {
                std::mem::swap(&mut executor, &mut harness.worker);
            }
            stations.push(Station::new(name, harness.beside(executor)));
        }
        Self { stations, backoff: Backoff::default(), calibration: None }
    }

    /// All workers time the default, or the best variant if the default is rejected, in rounds. A worker that differs
    /// by more than the noise floor takes no part in the finals, and its times are divided by its factor for ranks.
    /// Returns messages about such workers.
    pub(super) fn calibrate(
        &mut self,
        search: &mut Search<'_>,
        harness: &mut Harness<'a>,
    ) -> Result<Vec<String>, RunError> {
        let default = &search.kernel.space.default;
        let yardstick = if search.survived(default) {
            Candidate::from(default)
        } else if let Some(best) = search.best_distinct().first() {
            best.candidate.clone()
        } else {
            return Ok(Vec::new());
        };
        if self.stations.iter().filter(|station| station.is_open).count() < 2 {
            return Ok(Vec::new());
        }
        let Some(job) = yardstick_job(harness, &yardstick)? else { return Ok(Vec::new()) };
        let mut times = vec![Vec::new(); self.stations.len()];
        for _ in 0..ROUNDS {
            thread::scope(|scope| {
                let mut threads = Vec::new();
                for (station, times) in self.stations.iter_mut().zip(&mut times).filter(|(station, _)| station.is_open)
                {
                    let job = job.clone();
                    threads.push(threads::spawn_scoped(scope, move || {
                        let kernel = station.harness.kernel();
                        let shape = &kernel.shapes[kernel.search.shape].name;
                        match caught(time(&mut station.harness, shape, job, &mut Vec::new())) {
                            Ok(timed) => times.extend(timed.ok().map(|(timing, _)| timing.summary.p50)),
                            Err(error) if station::is_of_worker(&error) => station.is_open = false,
                            Err(error) => return Err(error),
                        }
                        Ok(())
                    })?);
                }
                threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            })?;
        }
        let calibration = Calibration::of(&times);
        let mut warnings = Vec::new();
        for (at, station) in self.stations.iter().enumerate() {
            let Some(ratio) = calibration.is_off(at) else { continue };
            search.slowness.extend(station.measured.iter().map(|measured| (measured.key.clone(), ratio)));
            let (by, how) = ((ratio - 1.0).abs() * 100.0, if ratio > 1.0 { "slower" } else { "faster" });
            warnings.push(format!(
                "{} is {by:.1} % {how} than the others on {}, beyond the noise floor of {:.1} %: its times were corrected for \
                 the choice of finalists, and it measured no finals",
                station.name,
                search.kernel.space.label(&yardstick.variant),
                calibration.noise_floor * 100.0,
            ));
        }
        self.calibration = Some(calibration);
        Ok(warnings)
    }

    /// Settings of the workers with a device of another model.
    pub(super) fn elsewhere(&self) -> Vec<WorkerOptions> {
        let others = self.stations.iter().filter(|station| station.is_other_model);
        others.map(|station| station.harness.worker.options().clone()).collect()
    }

    /// Gives the harness the worker for the finals, and the mean of the workers' times.
    pub(super) fn give_back(self, harness: &mut Harness<'a>) {
        let count = self.stations.len() as u32;
        let sum = |part: fn(&DeviceTimes) -> Duration| {
            self.stations.iter().map(|station| part(&station.harness.times)).sum::<Duration>() / count
        };
        harness.times.verify += sum(|times| times.verify);
        harness.times.time += sum(|times| times.time);
        harness.times.tools += sum(|times| times.tools);
        let mut stations = self.stations;
        let is_off = |at| self.calibration.as_ref().is_some_and(|calibration| calibration.is_off(at).is_some());
        let open = |at: &usize| stations[*at].is_open;
        let best = (0..stations.len()).find(|at| open(at) && !is_off(*at));
        let best = best.or_else(|| (0..stations.len()).find(open)).unwrap_or(0);
        let worker = stations.swap_remove(best).harness.worker;
        Executor::end_all(stations.iter_mut().map(|station| &mut station.harness.worker));
        if let Some(device) = worker.opened() {
            harness.context.use_device(device.clone());
        }
        harness.worker = worker;
    }
}

/// Largest number of outcomes that wait while other messages do: then the strategy gets all of them.
const AT_ONCE: usize = 32;

/// Messages to the thread of the search.
enum News {
    /// The strategy asks for variants, with [`Asked::total`](super::asker::Asked::total).
    Asked(u64),
    /// The strategy asks for no more variants.
    AskedAll,
    /// A build has ended.
    Built,
    /// Message of the station with this index.
    Said(usize, Said),
    /// The thread of a station has panicked; joining it shows the panic.
    Panicked,
}

/// Runs a function when it is dropped, also by a panic.
struct AtEnd<F: FnMut()>(F);

impl<F: FnMut()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The state of a search on a pool.
struct Desk<'d> {
    tasks: Vec<Sender<Box<Task>>>,
    told: Option<Sender<Learned>>,
    /// Outcomes that the strategy gets next.
    learned: Vec<Learned>,
    /// Subjects that are measured next.
    ready: VecDeque<Box<Task>>,
    /// Stations that are ready for a task.
    idle: Vec<usize>,
    /// Running measurements by key, with other subjects of the same key that wait for them.
    running: HashMap<String, Vec<Subject>>,
    /// Stations that have a worker.
    open: HashSet<usize>,
    /// Reason why each station gave up its worker, if it did.
    given_up: Vec<Option<String>>,
    asks: bool,
    deadline: Option<Instant>,
    /// Whether the time was up before the default was evaluated, which is the only variant that is still tried.
    wants_default: bool,
    names: &'d [String],
}

impl Search<'_> {
    pub(super) fn run_on_pool<'h>(
        &mut self,
        pipeline: &Pipeline<'_>,
        harness: &mut Harness<'h>,
        pool: &mut Pool<'h>,
        started: Instant,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        let limits = self.limits.clone();
        let Pool { stations, backoff, .. } = pool;
        let (backoff, count) = (*backoff, stations.len());
        let names: Vec<String> = stations.iter().map(|station| station.name.clone()).collect();
        let asker = self.asker(&limits, pipeline, count);
        let model = harness.context.device.clone();
        let notify = harness.context.setup.notify;
        if count > 1 {
            notify(&Notice::Workers { count, device: model.name.clone() });
        }
        let (news, inbox) = mpsc::channel();
        let (told, learned) = mpsc::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let built = news.clone();
        pipeline.listen(move || drop(built.send(News::Built)));
        let searched = thread::scope(|scope| {
            let mut tasks = Vec::new();
            for (at, station) in stations.iter_mut().enumerate() {
                let (sender, receiver) = mpsc::channel();
                tasks.push(sender);
                let (news, model, ended) = (news.clone(), &model, &ended);
                threads::spawn_scoped(scope, move || {
                    let _panicked = AtEnd(|| {
                        if thread::panicking() {
                            let _ = news.send(News::Panicked);
                        }
                    });
                    let say = |said| drop(news.send(News::Said(at, said)));
                    station.serve(model, backoff, ended, &receiver, &say);
                })?;
            }
            let asker = threads::spawn_scoped(scope, move || {
                let _all = AtEnd(|| drop(news.send(News::AskedAll)));
                asker.run(&learned, &|asked| news.send(News::Asked(asked.total)).is_ok())
            })?;
            let mut desk = Desk {
                tasks,
                told: Some(told),
                learned: Vec::new(),
                ready: VecDeque::new(),
                idle: Vec::new(),
                running: HashMap::new(),
                open: HashSet::new(),
                given_up: vec![None; count],
                asks: true,
                deadline: self.deadline(started),
                wants_default: false,
                names: &names,
            };
            let searched = self.serve_desk(&mut desk, pipeline, harness, &inbox, reporter);
            ended.store(true, Ordering::Relaxed);
            // The asker and the stations end once these are dropped.
            drop(desk);
            let stopped = asker.join().unwrap_or_else(|panic| resume_unwind(panic));
            self.stopped = self.stopped.or(stopped);
            searched
        });
        for station in stations {
            // A lost worker may be started again for the finals.
            station.harness.worker.until(Arc::default());
        }
        searched
    }

    fn serve_desk(
        &mut self,
        desk: &mut Desk<'_>,
        pipeline: &Pipeline<'_>,
        harness: &mut Harness<'_>,
        inbox: &Receiver<News>,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        // Reason that ends the run; running measurements are kept.
        let mut failed = None;
        let mut shown = (0, 0);
        loop {
            if failed.is_none() {
                failed = self.hand_out(desk, pipeline, harness, reporter).err();
            }
            if failed.is_some() || self.has_arrived(harness) {
                desk.stop();
            }
            if desk.is_over(failed.is_some(), pipeline) {
                return failed.map_or(Ok(()), Err);
            }
            let (total, open) = (desk.names.len(), desk.open.len());
            let state @ (busy, open) = (open.saturating_sub(desk.idle.len()), open);
            if total > 1 && state != shown {
                shown = state;
                reporter.event(Event::Workers { busy, open, total });
            }
            if let Some((done, total)) = pipeline.is_awaited(!desk.idle.is_empty() && desk.told.is_some()) {
                reporter.event(Event::Built { done, total });
            }
            let Some(news) = desk.hear(inbox, !self.tried.is_empty()) else {
                if self.tried.is_empty() && desk.running.is_empty() {
                    desk.wants_default = true;
                    pipeline.want_only(&self.kernel.space.default);
                    continue;
                }
                // Running measurements are finished, and none is started.
                self.stopped = Some(Stopped::Seconds);
                desk.stop();
                continue;
            };
            match news {
                News::Asked(total) => self.total = total,
                News::AskedAll => desk.asks = false,
                News::Built => {}
                News::Said(at, Said::Open) => {
                    desk.open.insert(at);
                    desk.idle.push(at);
                }
                News::Said(at, Said::Measured(task, evaluation)) => {
                    desk.idle.push(at);
                    if let Err(error) = self.measured(desk, &task.subject, evaluation, harness, reporter) {
                        failed = failed.or(Some(error));
                    }
                }
                News::Said(at, Said::Lost { task, why, again }) => {
                    desk.open.remove(&at);
                    desk.ready.extend(task.map(|mut task| {
                        task.not_at = Some(at);
                        task
                    }));
                    let worker = desk.names[at].clone();
                    (harness.context.setup.notify)(&Notice::WorkerLost { worker, why: why.clone(), again });
                    if again.is_none() {
                        desk.given_up[at] = Some(why);
                    }
                    if desk.given_up.iter().all(Option::is_some) {
                        let kernel = self.kernel.name.clone();
                        failed = failed.or(Some(RunError::NoWorkers { kernel, message: desk.why_given_up() }));
                    }
                }
                News::Said(at, Said::Failed(error)) => {
                    desk.given_up[at] = Some(error.to_string());
                    failed = failed.or(Some(error));
                }
                News::Panicked => return Ok(()),
            }
            if desk.told.is_some() && self.has_arrived(harness) {
                desk.stop();
            }
        }
    }

    /// Gives tasks to idle stations while there are both.
    fn hand_out(
        &mut self,
        desk: &mut Desk<'_>,
        pipeline: &Pipeline<'_>,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        loop {
            while desk.hand() {}
            if desk.idle.is_empty() || desk.told.is_none() {
                break;
            }
            let Some((variant, outcome)) = pipeline.take_first() else { break };
            let candidate = Candidate::from(&variant);
            match prepare(harness, &candidate, outcome?, Some(self.race()))? {
                Prepared::Cached(evaluation) => self.told(desk, &candidate, evaluation, reporter),
                Prepared::ToMeasure(subject) => desk.accept(*subject),
            }
        }
        Ok(())
    }

    /// Records a measurement for all variants that are the same program.
    fn measured(
        &mut self,
        desk: &mut Desk<'_>,
        subject: &Subject,
        evaluation: Arc<Evaluation>,
        harness: &mut Harness<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<(), RunError> {
        subject.keep(harness, &evaluation)?;
        let identical = desk.running.remove(subject.key()).unwrap_or_default();
        self.told(desk, subject.candidate(), evaluation, reporter);
        for subject in identical {
            match subject.cached(harness)? {
                Some(known) => self.told(desk, subject.candidate(), known, reporter),
                None => desk.accept(subject),
            }
        }
        Ok(())
    }

    /// Records an evaluation and tells the strategy.
    fn told(
        &mut self,
        desk: &mut Desk<'_>,
        candidate: &Candidate,
        evaluation: Arc<Evaluation>,
        reporter: &mut dyn Reporter,
    ) {
        desk.learned.push(learned(&candidate.variant, &evaluation));
        self.keep(Tried { candidate: candidate.clone(), evaluation }, reporter);
        if desk.learned.len() >= AT_ONCE {
            desk.tell();
        }
    }
}

impl Desk<'_> {
    /// Whether no message is expected.
    fn is_over(&self, failed: bool, pipeline: &Pipeline<'_>) -> bool {
        let nothing_runs = self.running.is_empty() || self.given_up.iter().all(Option::is_some);
        let nothing_comes = self.told.is_none() || !self.asks && pipeline.is_done();
        nothing_runs && (failed || nothing_comes)
    }

    /// Tells the strategy the outcomes so far.
    fn tell(&mut self) {
        for learned in self.learned.drain(..) {
            if let Some(told) = &self.told {
                // The channel is closed only after a panic of the asker's thread, which `join` reports.
                let _ = told.send(learned);
            }
        }
    }

    /// Starts no more measurements, and tells the strategy no more outcomes.
    fn stop(&mut self) {
        self.told = None;
        self.learned.clear();
        for task in self.ready.drain(..) {
            self.running.remove(task.subject.key());
        }
    }

    /// The next message; `None` once the time is up. `may_end`: the default was evaluated; until then the time is up once.
    fn hear(&mut self, inbox: &Receiver<News>, may_end: bool) -> Option<News> {
        let may_end = may_end || !self.running.is_empty() || !self.wants_default;
        let deadline = self.deadline.filter(|_| self.told.is_some() && may_end);
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return None;
        }
        // Each outcome by itself would wake the threads of the strategy and of the compilers up.
        if let Ok(news) = inbox.try_recv() {
            return Some(news);
        }
        self.tell();
        let Some(left) = left else { return Some(inbox.recv().expect("the pipeline can send")) };
        match inbox.recv_timeout(left) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the pipeline can send"),
        }
    }

    /// Measures a subject, unless the same program is being measured: then the subject waits for that result.
    fn accept(&mut self, subject: Subject) {
        if let Some(identical) = self.running.get_mut(subject.key()) {
            identical.push(subject);
            return;
        }
        self.running.insert(subject.key().to_owned(), Vec::new());
        self.ready.push_back(Box::new(Task { subject, lost: 0, not_at: None }));
    }

    /// Gives a task to an idle station, if there are both.
    fn hand(&mut self) -> bool {
        let is_alone = self.open.len() == 1;
        let suits = |task: &Task, station: usize| is_alone || task.not_at != Some(station);
        let pairs = self
            .ready
            .iter()
            .enumerate()
            .find_map(|(task, of)| Some((task, self.idle.iter().rposition(|&station| suits(of, station))?)));
        let Some((task, idle)) = pairs else { return false };
        let task = self.ready.remove(task).expect("found there");
        // A station that does not receive has panicked, which is the next message.
        let _ = self.tasks[self.idle.remove(idle)].send(task);
        true
    }

    fn why_given_up(&self) -> String {
        let whys = self.names.iter().zip(&self.given_up);
        let whys: Vec<String> =
            whys.map(|(name, why)| format!("{name}: {}", why.as_deref().unwrap_or_default())).collect();
        whys.join("; ")
    }
}
