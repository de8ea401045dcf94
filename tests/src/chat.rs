//! A chat that runs in the test's own process: the cloud of this machine, in memory, with the stack deployed to it by
//! the very code that `chatctl deploy` calls.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use chat_local::{Cloud, CloudConfig};
use chat_stacks::{
    Artifacts, Aws, Events, Outcome, Plan, PlanOptions, Settings, Stack, StageSettings, StaticCredentials,
    Target,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::client::{Client, Hail, PATIENCE, Refused};
use crate::handlers;
use crate::judge::Judge;
use crate::now_ms;
use crate::tokens::{KID, Signer};

/// What a connection's id has, in Base64.
const CONNECTION_ID_BYTES: usize = 11;
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// A deployed chat.
pub struct Chat {
    cloud: Arc<Cloud>,
    pub(crate) aws: Arc<Aws>,
    pub(crate) stage: StageSettings,
    url: String,
    judge: Arc<Judge>,
    /// Signs tokens where the chat wants them.
    pub signer: Signer,
    /// What AWS's own clients see.
    pub account: Account,
}

/// A chat to be: what differs from the chat that most tests share.
#[derive(Default)]
pub struct Builder {
    settings: BTreeMap<&'static str, String>,
    cloud: chat_local::Settings,
    signer: Signer,
}

impl Builder {
    /// One setting of the stage, its value as YAML in one line.
    #[must_use]
    pub fn setting(mut self, name: &'static str, value: &str) -> Self {
        self.settings.insert(name, value.to_owned());
        self
    }

    /// Only who has a token gets in.
    #[must_use]
    pub fn with_tokens(self) -> Self {
        let auth = format!("{{ mode: token, public_keys: {{ {KID}: {} }} }}", self.signer.public());
        self.setting("auth", &auth)
    }

    /// Nobody is told who comes and goes, so that events cost what the protocol's table says.
    #[must_use]
    pub fn without_presence(self) -> Self {
        self.setting("presence", "{ max_members: 0 }")
    }

    /// Changes the cloud's own limits.
    #[must_use]
    pub fn cloud(mut self, change: impl FnOnce(&mut chat_local::Settings)) -> Self {
        change(&mut self.cloud);
        self
    }

    /// Starts the cloud and deploys the chat.
    pub async fn start(self) -> Chat {
        let chat = self.start_empty().await;
        chat.deploy(handlers::artifacts()).await;
        chat.located().await
    }

    /// Starts the cloud and deploys nothing.
    pub async fn start_empty(self) -> Chat {
        let config = CloudConfig { settings: self.cloud, ..CloudConfig::in_memory() };
        let cloud = Cloud::start(config).await.unwrap_or_else(|why| panic!("the cloud did not start: {why}"));
        let mut settings = BTreeMap::from([
            ("endpoint", "local".to_owned()),
            ("auth", "{ mode: open }".to_owned()),
            ("lambda", "{ architecture: native }".to_owned()),
            ("limits", "{ sends_per_10s: 0 }".to_owned()),
            ("throttling", "{ rate: 10000, burst: 5000 }".to_owned()),
            ("control_plane", "{ rate: 0 }".to_owned()),
            ("build", "{ profile: dev }".to_owned()),
        ]);
        settings.extend(self.settings);
        let lines: String = settings.iter().map(|(name, value)| format!("    {name}: {value}\n")).collect();
        let text = format!("app: chat\nstages:\n  local:\n{lines}");
        let settings = Settings::parse(&text, "chat.yaml").unwrap_or_else(|why| panic!("{text}\n{why}"));
        let stage = settings.stage("local").unwrap_or_else(|why| panic!("{text}\n{why}"));
        let owner = StaticCredentials {
            access_key_id: "chatctl".to_owned(),
            secret_access_key: "chatctl".to_owned(),
            session_token: None,
        };
        let target = Target::new(&stage).at(cloud.endpoint(), owner);
        let aws = Aws::connect(&target).await.unwrap_or_else(|why| panic!("{why}"));
        Chat {
            account: Account::of(&cloud.endpoint()),
            cloud: Arc::new(cloud),
            aws: Arc::new(aws),
            stage,
            url: String::new(),
            judge: Arc::new(Judge::of_project()),
            signer: self.signer,
        }
    }
}

impl Chat {
    /// The chat that most tests share. It lives as long as the test program, so tests use rooms and users of their own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Chat> = OnceLock::new();
        // Not in the runtime of the test that comes first: that one ends before the others.
        let start = || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("no runtime for the shared chat");
            let chat = runtime.block_on(Builder::default().start());
            std::mem::forget(runtime);
            chat
        };
        let started = tokio::task::spawn_blocking(move || {
            SHARED.get_or_init(|| {
                std::thread::spawn(start).join().unwrap_or_else(|_| panic!("the shared chat did not start"))
            })
        });
        started.await.unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Finds out where clients connect.
    pub async fn located(mut self) -> Self {
        let url = self.status().await["websocket_url"].as_str().map(str::to_owned);
        self.url = url.unwrap_or_else(|| panic!("the chat was deployed without an address"));
        self
    }

    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The settings of its stage.
    pub fn settings(&self) -> &StageSettings {
        &self.stage
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The connection that deploys go through.
    pub fn aws(&self) -> &Arc<Aws> {
        &self.aws
    }

    pub fn table(&self) -> String {
        format!("{}-{}", self.stage.app, self.stage.stage)
    }

    /// The name that a function and its role have.
    pub fn function(&self, handler: &str) -> String {
        format!("{}-{handler}", self.table())
    }

    /// A client that is connected and greeted.
    pub async fn client(&self, user: &str) -> Client {
        let mut client =
            self.connect(&Hail::user(user)).await.unwrap_or_else(|why| panic!("{user}: {why:?}"));
        client.hello(&[]).await;
        client
    }

    /// Puts connections into a room that are no more, as if many had ended without a `$disconnect`: posts to them give
    /// 410. Each item is made larger by `padding` bytes, so that fewer fill a page.
    pub async fn haunt(&self, room: &str, ghosts: usize, padding: usize) {
        let text = |text: String| AttributeValue::S(text);
        let ghost = |n: usize| {
            let mut id = [0_u8; CONNECTION_ID_BYTES];
            id[..8].copy_from_slice(&n.to_be_bytes());
            HashMap::from([
                ("PK".to_owned(), text(format!("R#{room}"))),
                ("SK".to_owned(), text(format!("S#{}", URL_SAFE.encode(id)))),
                ("u".to_owned(), text(format!("ghost{n}"))),
                ("x".to_owned(), AttributeValue::N((now_ms() / 1000 + 7_200).to_string())),
                ("padding".to_owned(), text("-".repeat(padding))),
            ])
        };
        self.account.put_items(&self.table(), (0..ghosts).map(ghost).collect()).await;
    }

    /// Several at once, each named by its user.
    pub async fn clients<const N: usize>(&self, users: [&str; N]) -> [Client; N] {
        let mut clients = Vec::with_capacity(N);
        for user in users {
            clients.push(self.client(user).await);
        }
        clients.try_into().unwrap_or_else(|_| unreachable!("one client for each name"))
    }

    /// A client that is let in, or not, and says nothing yet.
    ///
    /// # Errors
    /// The status of the refusal.
    pub async fn connect(&self, hail: &Hail) -> Result<Client, Refused> {
        Client::connect(&self.url, Arc::clone(&self.judge), hail).await
    }

    /// What a deploy of these handlers would do.
    pub async fn plan(&self, artifacts: &Artifacts) -> Plan {
        let identity = self.aws.identity().await.unwrap_or_else(|why| panic!("{why}"));
        let stack =
            chat_stacks::chat::stack(&self.stage, identity, artifacts).unwrap_or_else(|why| panic!("{why}"));
        self.plan_of(&stack).await
    }

    async fn plan_of(&self, stack: &Stack) -> Plan {
        let observed =
            chat_stacks::observe(&self.aws, stack.scope()).await.unwrap_or_else(|why| panic!("{why}"));
        chat_stacks::plan(stack, &observed, &PlanOptions::of(&self.stage))
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Deploys these handlers, and returns what that took.
    pub async fn deploy(&self, artifacts: &Artifacts) -> Plan {
        let identity = self.aws.identity().await.unwrap_or_else(|why| panic!("{why}"));
        let stack =
            chat_stacks::chat::stack(&self.stage, identity, artifacts).unwrap_or_else(|why| panic!("{why}"));
        self.bring_to(&stack).await
    }

    /// Destroys the stage, and returns what that took.
    pub async fn destroy(&self) -> Plan {
        self.bring_to(&Stack::empty(self.stage.scope())).await
    }

    /// Deploys these handlers, and returns what apply says of it.
    pub async fn deploy_and_tell(&self, artifacts: &Artifacts) -> (Stack, Outcome) {
        let identity = self.aws.identity().await.unwrap_or_else(|why| panic!("{why}"));
        let stack =
            chat_stacks::chat::stack(&self.stage, identity, artifacts).unwrap_or_else(|why| panic!("{why}"));
        let outcome = self.apply(&stack, &self.plan_of(&stack).await).await;
        (stack, outcome)
    }

    async fn bring_to(&self, stack: &Stack) -> Plan {
        let plan = self.plan_of(stack).await;
        self.apply(stack, &plan).await;
        plan
    }

    async fn apply(&self, stack: &Stack, plan: &Plan) -> Outcome {
        let applied =
            chat_stacks::apply(&self.aws, stack, plan, &Events::none(), &CancellationToken::new()).await;
        applied.unwrap_or_else(|why| panic!("{why}"))
    }

    /// What `chatctl status` shows.
    pub async fn status(&self) -> Value {
        let scope = self.stage.scope();
        let observed = chat_stacks::observe(&self.aws, &scope).await.unwrap_or_else(|why| panic!("{why}"));
        json!(chat_stacks::status::of(&observed, &scope))
    }

    /// Takes the chat down with its cloud.
    pub async fn stop(self) {
        let cloud = Arc::clone(&self.cloud);
        drop(self);
        if let Some(cloud) = Arc::into_inner(cloud) {
            cloud.shutdown().await;
        }
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.account.print_logs(&self.table());
        }
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    assert!(within(PATIENCE, &mut is_so).await, "waited {PATIENCE:?} until {what}");
}

/// Whether something becomes so in time.
pub async fn within(patience: Duration, is_so: &mut impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if is_so().await {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        sleep(LOOK).await;
    }
}
