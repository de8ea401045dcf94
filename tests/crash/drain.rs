//! Ctrl-C and SIGTERM in the middle of a deploy, sent to the real command: what is in flight is finished within the
//! seconds that CI systems grant, what was not done is named, and the next run goes on.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chat_local::{Cloud, CloudConfig, Fault, Rule};
use chat_tests::{Chatctl, process, within};
use rustix::process::Signal;
use tokio::sync::oneshot;

/// CI systems send SIGINT, and SIGTERM 7.5 s later.
const GRANTED: Duration = Duration::from_secs(7);
const PATIENCE: Duration = Duration::from_secs(120);

struct Stage {
    cloud: Cloud,
    project: Chatctl,
}

impl Stage {
    async fn new(change: impl FnOnce(&mut CloudConfig)) -> Self {
        let mut config = CloudConfig::in_memory();
        change(&mut config);
        let cloud = Cloud::start(config).await.expect("the cloud starts");
        let stage = format!(
            "  ci:\n    endpoint: {}\n    auth: {{ mode: open }}\n    lambda: {{ architecture: native }}\n    \
             control_plane: {{ rate: 0 }}\n    build: {{ profile: dev }}\n",
            cloud.endpoint()
        );
        Self { cloud, project: Chatctl::new(&stage) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(&[args, &["--stage", "ci", "--yes"]].concat());
        command.env("AWS_ACCESS_KEY_ID", "chatctl").env("AWS_SECRET_ACCESS_KEY", "chatctl");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn deploy(&self) -> Child {
        self.command(&["deploy"]).spawn().expect("chatctl starts")
    }

    fn unlock(&self) {
        let unlocked = self.command(&["unlock", "--reason", "it was ended by a second signal"]).output();
        let unlocked = unlocked.expect("chatctl starts");
        assert!(unlocked.status.success(), "{}", text(&unlocked));
    }

    /// Waits until the deploy has made a call so often.
    async fn called(&self, service: &str, operation: &str, times: u64) {
        let mut called = async || self.cloud.calls().count(service, operation) >= times;
        assert!(within(PATIENCE, &mut called).await, "{operation} was not called");
    }

    /// The next deploy goes on, and the one after it has nothing to do.
    async fn goes_on(self) {
        self.cloud.faults().clear();
        for expected in ["deployed in", "nothing to do"] {
            let child = self.deploy();
            let ended = end(child).await;
            let text = text(&ended);
            assert!(ended.status.success() && text.contains(expected), "{text}");
        }
        self.cloud.shutdown().await;
    }
}

async fn end(child: Child) -> Output {
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    ended.await.expect("no panic").expect("the deploy ends")
}

/// Resolves once the deploy says this on its standard error, which is then read to its end.
fn said(child: &mut Child, what: &'static str) -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    let stderr = child.stderr.take().expect("a pipe");
    std::thread::spawn(move || {
        let mut tell = Some(tell);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains(what)
                && let Some(tell) = tell.take()
            {
                // A test that has failed listens no more.
                let _ = tell.send(());
            }
        }
    });
    told
}

/// Signals a deploy and returns how it ended, what it said, and how long that took.
async fn interrupt(child: Child, kind: Signal) -> (Output, Duration) {
    let sent = Instant::now();
    process::signal(child.id(), kind);
    (end(child).await, sent.elapsed())
}

fn text(ended: &Output) -> String {
    let both = [ended.stdout.as_slice(), b"\n", ended.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_finished_and_the_rest_is_named() {
    let _machine = crate::MACHINE.lock().await;
    let stage = Stage::new(|_| {}).await;
    stage.cloud.faults().set([Rule::every("apigateway:CreateApi", Fault::Delay { ms: 2_000 })]);
    let child = stage.deploy();
    stage.called("apigateway", "CreateApi", 1).await;
    let (ended, took) = interrupt(child, Signal::INT).await;
    let text = text(&ended);
    assert_eq!(ended.status.code(), Some(130), "{text}");
    assert!(took > Duration::from_millis(1_500) && took < GRANTED, "{took:?}\n{text}");
    assert!(text.contains("api/chat created"), "{text}");
    assert!(text.contains("stage/ci not created: the run was stopped"), "{text}");
    assert!(text.contains("skipped: ") && text.contains("run the same command again to go on"), "{text}");
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let _machine = crate::MACHINE.lock().await;
    let stage = Stage::new(|_| {}).await;
    stage.cloud.faults().set([Rule::every("apigateway:CreateApi", Fault::Hold { worked: true })]);
    let child = stage.deploy();
    stage.called("apigateway", "CreateApi", 1).await;
    let (ended, took) = interrupt(child, Signal::TERM).await;
    let text = text(&ended);
    assert_eq!(ended.status.code(), Some(130), "{text}");
    assert!(took < GRANTED, "{took:?}\n{text}");
    assert!(text.contains("api/chat not created: the run was stopped while it was in work"), "{text}");
    // A function may still have been waiting for its code.
    let given_up = text.lines().find_map(|line| line.split("given up while in work: ").nth(1));
    assert!(given_up.is_some_and(|given_up| given_up.contains("api/chat")), "{text}");
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_takes_its_time_is_not_waited_for() {
    let _machine = crate::MACHINE.lock().await;
    let stage = Stage::new(|_| {}).await;
    stage.cloud.faults().set([Rule::every("*", Fault::NotAssumable { attempts: 100_000 })]);
    let child = stage.deploy();
    // Each of the three was refused once and waits three seconds for its next attempt.
    stage.called("lambda", "CreateFunction", 3).await;
    let (ended, took) = interrupt(child, Signal::INT).await;
    let text = text(&ended);
    assert_eq!(ended.status.code(), Some(130), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}\n{text}");
    assert!(
        text.contains("function/connect not created: the run was stopped while it was in work"),
        "{text}"
    );
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_takes_its_time_is_not_waited_for() {
    let _machine = crate::MACHINE.lock().await;
    let stage = Stage::new(|config| config.settings.lambda.settle = Duration::from_secs(12)).await;
    let child = stage.deploy();
    // It polls until the functions are ready: three create, and each looks some times.
    stage.called("lambda", "GetFunctionConfiguration", 15).await;
    let (ended, took) = interrupt(child, Signal::INT).await;
    let text = text(&ended);
    assert_eq!(ended.status.code(), Some(130), "{text}");
    assert!(took < Duration::from_secs(2), "{took:?}\n{text}");
    assert!(text.contains("waiting until the function is ready"), "{text}");
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let _machine = crate::MACHINE.lock().await;
    let stage = Stage::new(|_| {}).await;
    stage.cloud.faults().set([Rule::every("apigateway:CreateApi", Fault::Hold { worked: true })]);
    let mut child = stage.deploy();
    let said = said(&mut child, "stopping after ");
    stage.called("apigateway", "CreateApi", 1).await;
    process::signal(child.id(), Signal::INT);
    said.await.expect("the first signal is answered");
    let (ended, took) = interrupt(child, Signal::TERM).await;
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended));
    assert!(took < Duration::from_secs(1), "{took:?}");
    // Nothing was tidied up: whoever comes within the lease of a minute is told of the lock, and can end it.
    stage.unlock();
    stage.goes_on().await;
}
