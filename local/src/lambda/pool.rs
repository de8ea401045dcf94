//! The environments of one version of a function, and the events that wait for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Notify, mpsc, oneshot};

use super::code::Unpacked;
use super::concurrency::Permit;
use super::environment;
use super::host::Host;
use super::output::{Mark, Report};

/// The head of the queue waits this long for a busy environment before a further one is started. A handler that
/// answers faster is cheaper to wait for than a process.
const SCALE_AFTER: Duration = Duration::from_millis(5);
/// Environments that may be starting at a time.
const STARTING: usize = 2;
/// A head that waits this long is behind environments that wait themselves, perhaps for this very event: then the
/// limit of processes gives way, up to the limit of concurrency.
const STARVED_AFTER: Duration = Duration::from_secs(1);
const STARVED_EVERY: Duration = Duration::from_millis(250);

/// What to run. Fixed for the life of a pool.
pub(super) struct Spec {
    pub(super) function: String,
    pub(super) version: String,
    pub(super) handler: String,
    pub(super) role: String,
    /// Unique id of the role that may decrypt the variables.
    pub(super) grantee: Option<String>,
    pub(super) timeout: Duration,
    pub(super) memory_mb: u64,
    pub(super) variables: Vec<(String, String)>,
    pub(super) code: Arc<Unpacked>,
    pub(super) log_group: String,
}

/// An event on its way to an environment.
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    /// With the qualifier that was asked for.
    pub(super) arn: Arc<str>,
    pub(super) tail: Option<oneshot::Sender<String>>,
    pub(super) permit: Permit,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What the function made of an event.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) payload: Bytes,
    /// The function failed: `Unhandled`.
    pub(super) error: Option<&'static str>,
}

/// What an environment gets from `next`.
pub(super) struct Delivery {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) arn: Arc<str>,
    /// Milliseconds since 1970.
    pub(super) deadline_ms: i64,
}

/// Why an environment ended, or is to end.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// `error_type` and message, without `RequestId: …`.
    Failed { error_type: &'static str, message: String },
    /// The runtime reported this JSON at `init/error`.
    InitError(Bytes),
    /// An invocation, or the start, took too long.
    TimedOut,
    /// Not needed any more.
    Unneeded,
}

/// What the supervisor of an environment has to do now.
pub(super) enum Due {
    Wait(Instant),
    Kill,
}

pub(super) struct Pool {
    pub(super) spec: Spec,
    pub(super) host: Arc<Host>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Instant, Event)>,
    /// Environments that wait in `next`. The last to come is the first to get an event, so that those too many
    /// grow old.
    idle: Vec<u64>,
    slots: HashMap<u64, Slot>,
    last_id: u64,
    last_start: Option<Instant>,
    scaling: bool,
    /// Nothing new points here: environments end instead of waiting.
    retired: bool,
}

struct Slot {
    /// When it was started, or last became free.
    since: Instant,
    starting: bool,
    ending: Option<Ending>,
    /// Taken by the first report.
    init: Option<Duration>,
    next: Option<oneshot::Sender<Delivery>>,
    running: Option<Running>,
    marks: Option<mpsc::UnboundedSender<Mark>>,
    wake: Arc<Notify>,
}

struct Running {
    request_id: String,
    started: Instant,
    deadline: Instant,
    tail: Option<oneshot::Sender<String>>,
    answer: oneshot::Sender<Answer>,
    _permit: Permit,
}

impl Pool {
    pub(super) fn new(spec: Spec, host: Arc<Host>) -> Arc<Self> {
        Arc::new(Self { spec, host, state: Mutex::default() })
    }

    /// Gives the event to a free environment, or lets it wait for one.
    pub(super) fn submit(self: &Arc<Self>, event: Event) {
        let mut to_start = None;
        let mut scale = false;
        {
            let mut state = self.lock();
            let Err(event) = state.offer(event, &self.spec) else { return };
            state.waiting.push_back((Instant::now(), event));
            if state.live() == 0 {
                to_start = Some(state.reserve());
            } else if !state.scaling {
                state.scaling = true;
                scale = true;
            }
        }
        if let Some((id, wake)) = to_start {
            environment::start(self, id, wake);
        }
        if scale {
            tokio::spawn(Arc::clone(self).scale());
        }
    }

    /// Starts environments as long as events wait too long.
    async fn scale(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SCALE_AFTER).await;
            let mut state = self.lock();
            let Some((queued, _)) = state.waiting.front() else {
                state.scaling = false;
                return;
            };
            let waited = queued.elapsed();
            let starting = state.slots.values().filter(|slot| slot.starting && slot.ending.is_none()).count();
            let live = state.live();
            let settings = &self.host.cx.settings.lambda;
            let starved = waited >= STARVED_AFTER
                && live < settings.concurrency
                && state.last_start.is_none_or(|at| at.elapsed() >= STARVED_EVERY);
            let room = live < settings.max_environments.max(1) || starved;
            // Never more than there are events to serve.
            let useful = starting < STARTING.min(state.waiting.len());
            if waited >= SCALE_AFTER && room && useful {
                let (id, wake) = state.reserve();
                drop(state);
                environment::start(&self, id, wake);
            }
        }
    }

    /// An environment is ready for an event. `None`: it is to end, or it has an event already.
    pub(super) fn next(&self, id: u64) -> Option<oneshot::Receiver<Delivery>> {
        let mut state = self.lock();
        let retired = state.retired;
        let slot = state.slots.get_mut(&id)?;
        if slot.running.is_some() || slot.ending.is_some() {
            return None;
        }
        if slot.starting {
            slot.starting = false;
            slot.init = Some(slot.since.elapsed());
        }
        let (sender, receiver) = oneshot::channel();
        slot.since = Instant::now();
        slot.next = Some(sender);
        if let Some((queued, event)) = state.waiting.pop_front() {
            if let Err(event) = state.hand(id, event, &self.spec) {
                state.waiting.push_front((queued, event));
            }
        } else if retired {
            state.end(id, Ending::Unneeded);
        } else if !state.idle.contains(&id) {
            state.idle.push(id);
        }
        Some(receiver)
    }

    /// An environment answers its event. `false`: that event is not its own, or no longer.
    pub(super) fn answer(&self, id: u64, request_id: &str, payload: Bytes, failed: bool) -> bool {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&id) else { return false };
        let Some(running) = slot.running.take_if(|running| running.request_id == request_id) else {
            return false;
        };
        let report = self.report(&running, slot.init.take());
        slot.finish(running, report, Answer { payload, error: failed.then_some("Unhandled") });
        true
    }

    /// An environment could not initialise and says why.
    pub(super) fn init_error(&self, id: u64, payload: Bytes) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(&id)
            && slot.starting
        {
            state.end(id, Ending::InitError(payload));
        }
    }

    /// Whether an environment has used up its time.
    pub(super) fn due(&self, id: u64) -> Due {
        let now = Instant::now();
        let settings = &self.host.cx.settings.lambda;
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&id) else { return Due::Kill };
        if slot.ending.is_some() {
            return Due::Kill;
        }
        let (until, ending) = if slot.starting {
            (slot.since + settings.init_timeout, Ending::TimedOut)
        } else if let Some(running) = &slot.running {
            (running.deadline, Ending::TimedOut)
        } else {
            (slot.since + settings.idle_reap, Ending::Unneeded)
        };
        if now < until {
            // An event that comes meanwhile has at least its timeout from now: nobody has to wake the supervisor.
            return Due::Wait(until.min(now + self.spec.timeout));
        }
        if let Some(running) = slot.running.take() {
            self.timed_out(slot, running);
        }
        state.end(id, ending);
        Due::Kill
    }

    fn timed_out(&self, slot: &mut Slot, running: Running) {
        let message = format!("Task timed out after {:.2} seconds", self.spec.timeout.as_secs_f64());
        let report = Report {
            status: Some("Status: timeout"),
            before: Some(format!("{:.3} {} {message}", jiff::Timestamp::now(), running.request_id)),
            ..self.report(&running, slot.init.take())
        };
        let answer = Answer {
            payload: error_payload(
                "Sandbox.Timedout",
                &format!("RequestId: {} Error: {message}", running.request_id),
            ),
            error: Some("Unhandled"),
        };
        slot.finish(running, report, answer);
    }

    /// The process of an environment is gone, or never was. `hint` is for the log only.
    pub(super) fn gone(self: &Arc<Self>, id: u64, exit: Ending, hint: Option<String>) {
        let mut to_start = None;
        {
            let mut state = self.lock();
            state.idle.retain(|&idle| idle != id);
            let Some(mut slot) = state.slots.remove(&id) else { return };
            let ending = slot.ending.take().unwrap_or(exit);
            if let Some(running) = slot.running.take() {
                let (answer, note) = self.explain(&ending, &running.request_id);
                let report = Report {
                    status: Some("Status: error\tError Type: Runtime.ExitError"),
                    after: Some(note),
                    ..self.report(&running, slot.init.take())
                };
                slot.finish(running, report, answer);
            } else if slot.starting && !matches!(ending, Ending::Unneeded) {
                // Nobody could start. If others may still, only the first in the queue learns it.
                let others = state.live() > 0;
                let ready = state.slots.values().any(|slot| !slot.starting && slot.ending.is_none());
                let failing = if ready {
                    0
                } else if others {
                    1
                } else {
                    state.waiting.len()
                };
                let failing = failing.min(state.waiting.len());
                let events: Vec<Event> = state.waiting.drain(..failing).map(|(_, event)| event).collect();
                if events.is_empty() {
                    slot.mark(Mark::Line(self.explain(&ending, "-").1));
                }
                for event in events {
                    let (answer, note) = self.explain(&ending, &event.request_id);
                    let running = event.begin(&self.spec);
                    slot.mark(Mark::Start {
                        request_id: running.request_id.clone(),
                        version: self.spec.version.clone(),
                    });
                    let report = Report {
                        status: Some("Status: error\tError Type: Runtime.ExitError"),
                        after: Some(note),
                        ..self.report(&running, None)
                    };
                    slot.finish(running, report, answer);
                }
            }
            if let Some(hint) = hint {
                slot.mark(Mark::Line(hint));
            }
            if !state.waiting.is_empty() && state.live() == 0 {
                to_start = Some(state.reserve());
            }
        }
        if let Some((id, wake)) = to_start {
            environment::start(self, id, wake);
        }
    }

    /// What an invoker is told about an environment's end, and the line about it in the log.
    fn explain(&self, ending: &Ending, request_id: &str) -> (Answer, String) {
        let (error_type, message) = match ending {
            Ending::Failed { error_type, message } => (*error_type, message.clone()),
            Ending::InitError(payload) => {
                let note = format!("RequestId: {request_id} Error: {}", String::from_utf8_lossy(payload));
                return (Answer { payload: payload.clone(), error: Some("Unhandled") }, note);
            }
            Ending::TimedOut => (
                "Sandbox.Timedout",
                format!(
                    "Initialization timed out after {:.2} seconds",
                    self.host.cx.settings.lambda.init_timeout.as_secs_f64()
                ),
            ),
            Ending::Unneeded => ("Runtime.ExitError", "Runtime exited without providing a reason".to_owned()),
        };
        let message = format!("RequestId: {request_id} Error: {message}");
        let answer = Answer { payload: error_payload(error_type, &message), error: Some("Unhandled") };
        (answer, format!("{message}\n{error_type}"))
    }

    fn report(&self, running: &Running, init: Option<Duration>) -> Report {
        Report {
            request_id: running.request_id.clone(),
            duration: running.started.elapsed(),
            init,
            memory_mb: self.spec.memory_mb,
            status: None,
            before: None,
            after: None,
            tail: None,
        }
    }

    /// Lets the environments finish what they have, and end.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.retired = true;
        for id in std::mem::take(&mut state.idle) {
            state.end(id, Ending::Unneeded);
        }
    }

    /// Where an environment's own lines go; given once its process runs.
    pub(super) fn attach(&self, id: u64, marks: mpsc::UnboundedSender<Mark>) {
        if let Some(slot) = self.lock().slots.get_mut(&id) {
            slot.marks = Some(marks);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Environments that serve or will.
    fn live(&self) -> usize {
        self.slots.values().filter(|slot| slot.ending.is_none()).count()
    }

    fn reserve(&mut self) -> (u64, Arc<Notify>) {
        self.last_id += 1;
        self.last_start = Some(Instant::now());
        let wake = Arc::new(Notify::new());
        let slot = Slot {
            since: Instant::now(),
            starting: true,
            ending: None,
            init: None,
            next: None,
            running: None,
            marks: None,
            wake: Arc::clone(&wake),
        };
        self.slots.insert(self.last_id, slot);
        (self.last_id, wake)
    }

    /// Gives the event to an idle environment, or back.
    fn offer(&mut self, mut event: Event, spec: &Spec) -> Result<(), Event> {
        while let Some(id) = self.idle.pop() {
            match self.hand(id, event, spec) {
                Ok(()) => return Ok(()),
                Err(back) => event = back,
            }
        }
        Err(event)
    }

    fn hand(&mut self, id: u64, event: Event, spec: &Spec) -> Result<(), Event> {
        let Some(slot) = self.slots.get_mut(&id) else { return Err(event) };
        // The process may have closed its connection: then nobody waits here any more.
        let Some(next) = slot.next.take().filter(|next| !next.is_closed()) else { return Err(event) };
        let (payload, arn) = (event.payload.clone(), Arc::clone(&event.arn));
        let running = event.begin(spec);
        slot.mark(Mark::Start { request_id: running.request_id.clone(), version: spec.version.clone() });
        let delivery = Delivery {
            request_id: running.request_id.clone(),
            payload,
            arn,
            deadline_ms: jiff::Timestamp::now().as_millisecond()
                + i64::try_from(spec.timeout.as_millis()).unwrap_or(i64::MAX / 2),
        };
        // If it closed in this very moment, its process is going, and the event fails with it: it may have been read.
        let _ = next.send(delivery);
        slot.running = Some(running);
        Ok(())
    }

    fn end(&mut self, id: u64, ending: Ending) {
        self.idle.retain(|&idle| idle != id);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.ending.get_or_insert(ending);
            slot.next = None;
            slot.wake.notify_one();
        }
    }
}

impl Slot {
    fn mark(&self, mark: Mark) {
        if let Some(marks) = &self.marks {
            let _ = marks.send(mark);
        }
    }

    fn finish(&self, mut running: Running, mut report: Report, answer: Answer) {
        report.tail = running.tail.take();
        self.mark(Mark::End(Box::new(report)));
        // An invoker that does not wait any more changes nothing.
        let _ = running.answer.send(answer);
    }
}

impl Event {
    fn begin(self, spec: &Spec) -> Running {
        let started = Instant::now();
        Running {
            request_id: self.request_id,
            started,
            deadline: started + spec.timeout,
            tail: self.tail,
            answer: self.answer,
            _permit: self.permit,
        }
    }
}

/// An error as runtimes report it.
pub(super) fn error_payload(error_type: &str, message: &str) -> Bytes {
    Bytes::from(json!({ "errorType": error_type, "errorMessage": message }).to_string())
}
