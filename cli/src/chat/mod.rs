//! `chat`: a client in the terminal, for people, for scripts, and to see that a stage works. Stays connected, and loses
//! and repeats nothing: see [`session`].

mod command;
mod delivery;
mod link;
mod questions;
mod render;
mod room;
mod screen;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use chat_stacks::Error;
use chat_stacks::socket::{Caller, NoSocket, Pass};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde_json::Value;

use crate::args;
use crate::context::Context;
use crate::env;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::ids::is_id;
use crate::output::Mode;
use crate::stage::Stage;
use crate::token;
use crate::verbs::deploy::status_of;
use command::{Command, HELP, room_of};
use link::{Link, News};
use screen::{Input, Screen};
use session::{Event, Session, Step};

/// Seconds that a token is good for: longer than a connection lasts, which is two hours at most.
const TOKEN_S: i64 = 3 * 60 * 60;
/// Between attempts to connect: doubles, with a random part.
const BACK_OFF: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// A connection that lasts so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Attempts before the first welcome, after which it is clear that there will be none.
const FIRST_ATTEMPTS: u32 = 4;
/// How long each of the last messages may take to go out.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
struct Report {
    user: String,
    sent: u64,
    received: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was said speaks for itself.
        Ok(())
    }
}

pub(crate) async fn run(context: &Context, args: &args::Chat) -> Result<ExitCode> {
    // A variable that is set to nothing, as by a secret that is not there, is none.
    let token = args.token.as_deref().filter(|token| !token.is_empty());
    let user = user(args.user.as_deref(), token, env::read(env::LOGIN))?;
    let room = room_of(&args.room, &user).map_err(|why| CliError::usage("invalid_room", why))?;
    let opening = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let status = status_of(&stage).await?;
        let url = status.websocket_url.ok_or_else(|| {
            let scope = &status.scope;
            CliError::from(Error::NotDeployed { app: scope.app.to_string(), stage: scope.stage.to_string() })
        })?;
        Ok((stage, url))
    };
    let (stage, url) = context.unless_stopped(opening).await?;
    let door = Door { stage: &stage, url, user: user.clone(), token: token.map(str::to_owned) };
    // Before the terminal is taken over, so that an error is printed as any other.
    door.caller()?;
    let session = Session::new(&user, args.history, &prefix()?);
    let mut screen = Screen::open(context)?;
    let mut talk = Talk::new(context, &door, session, args.follow);
    let ended = talk.run(&mut screen, &room).await;
    if let Err(why) = &ended {
        for event in talk.session.unsaid(&why.message) {
            screen.show(context, &event, &talk.session.user);
        }
    }
    screen.close();
    ended?;
    let no_answer = talk.no_answer();
    let Session { user, sent, received, not_sent, .. } = talk.session;
    let lost = not_sent + talk.unsaid;
    // At a terminal one has seen it, and may have said it again.
    if !talk.interactive {
        if lost > 0 {
            let message = format!("{lost} of {} messages were not sent", sent + lost);
            return Err(CliError::failed("not_sent", message));
        }
        if talk.in_vain {
            return Err(no_answer);
        }
    }
    context.output.result(&Report { user, sent, received });
    Ok(ExitCode::Ok)
}

/// Who one is in the chat: whom the token names, or `named`, or who has logged in here.
fn user(named: Option<&str>, token: Option<&str>, login: Option<String>) -> Result<String> {
    if let Some(user) = named.filter(|user| !is_id(user)) {
        return Err(CliError::usage("invalid_id", format!("--user {user:?} is not an id"))
            .help("ids are 1 to 64 characters of A-Z a-z 0-9 _ . : -"));
    }
    match (named, token.and_then(token::subject).filter(|subject| is_id(subject))) {
        (Some(user), Some(subject)) if user != subject => {
            Err(CliError::usage("not_your_token", format!("the token is {subject}'s, not {user}'s"))
                .help(format!(
                    "leave out --user, or have one signed: chatctl token --user {user}; where names are enough, leave out \
                     --token and unset {}",
                    env::TOKEN
                )))
        }
        (_, Some(subject)) => Ok(subject),
        (Some(user), None) => Ok(user.to_owned()),
        (None, None) => login.filter(|login| is_id(login)).ok_or_else(|| {
            CliError::usage("no_user", "nobody says who you are").help("name yourself: --user alice")
        }),
    }
}

/// The beginning of ids that nobody else makes.
fn prefix() -> Result<String> {
    let mut bytes = [0; 6];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CliError::failed("no_randomness", "failed to get randomness for ids"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where and as whom to connect.
struct Door<'a> {
    stage: &'a Stage,
    url: String,
    user: String,
    token: Option<String>,
}

impl Door<'_> {
    /// With a fresh token, if the stage wants one.
    fn caller(&self) -> Result<Caller> {
        let caller = self.stage.caller(self.user.clone(), TOKEN_S)?;
        if let Some(token) = self.token.as_ref().filter(|_| caller.pass != Pass::Name) {
            return Ok(Caller { pass: Pass::Token(token.clone()), ..caller });
        }
        if caller.pass == Pass::Nothing {
            let stage = &self.stage.settings.stage;
            let message = format!("stage {stage} wants a token, and its signing key is not here");
            return Err(CliError::refused("token_needed", message).help(format!(
                "have one signed where the key is, by `chatctl token --user {} --stage {stage}`, and pass it as \
                 {} or with --token",
                self.user,
                env::TOKEN
            )));
        }
        Ok(caller)
    }

    fn open(&self) -> Result<Link> {
        Ok(Link::open(self.url.clone(), self.caller()?))
    }
}

/// The connection, at this moment.
enum Line {
    Up(Link),
    /// Connect at that moment.
    Down(Instant),
}

struct Talk<'a> {
    context: &'a Context,
    door: &'a Door<'a>,
    session: Session,
    follow: bool,
    interactive: bool,
    line: Line,
    opened_at: Option<Instant>,
    failures: u32,
    /// Why there is no connection, as it was said last.
    reason: Option<String>,
    /// When to give up on what is still to be said.
    leave_by: Option<Instant>,
    input_ended: bool,
    /// Messages that had not gone out at the end.
    unsaid: u64,
    /// Whether the end did not wait for all answers.
    in_vain: bool,
}

impl<'a> Talk<'a> {
    fn new(context: &'a Context, door: &'a Door<'a>, session: Session, follow: bool) -> Self {
        Self {
            context,
            door,
            session,
            follow,
            interactive: false,
            line: Line::Down(Instant::now()),
            opened_at: None,
            failures: 0,
            reason: None,
            leave_by: None,
            input_ended: false,
            unsaid: 0,
            in_vain: false,
        }
    }

    /// Until the user leaves, or it turns out that there is nothing to stay for.
    async fn run(&mut self, screen: &mut Screen, room: &str) -> Result<()> {
        self.interactive = screen.is_terminal();
        // What was to be said is said all the same.
        self.context.output.stay_without_reader();
        let steps = self.session.enter(room, Instant::now());
        self.do_all(steps, screen)?;
        let mut sent = 0;
        loop {
            if self.leave_by.is_some() && self.has_done() {
                break;
            }
            let now = Instant::now();
            // Whoever only listens has nothing to stay for when nobody listens to him. A terminal's input never ends.
            if self.follow
                && (self.input_ended || io::stdin().is_terminal())
                && self.context.output.has_lost_its_reader()
            {
                self.leave(screen);
            }
            // As long as messages go out, however slowly the stage lets them, there is hope for the others.
            if self.leave_by.is_some() && sent != self.session.sent {
                self.leave_by = Some(now + LEAVE_WITHIN);
            }
            sent = self.session.sent;
            if self.leave_by.is_some_and(|by| by <= now) {
                self.in_vain = true;
                break;
            }
            if let Line::Down(at) = self.line
                && at <= now
            {
                self.line = Line::Up(self.door.open()?);
            }
            screen.prompt(self.session.current(), &self.session.user, self.session.is_online());
            // A pipe waits until there is room. A terminal is served as long as it is there: it prints while it reads, and
            // nothing else tells that somebody pressed Ctrl-C.
            let reads = self.interactive || (!self.input_ended && !self.session.is_full());
            let next_due = self.next_due();
            let steps = tokio::select! {
                input = screen.input(), if reads => match input {
                    Input::Line(_) if self.leave_by.is_some() && self.interactive => {
                        self.say_goodbye(screen);
                        Vec::new()
                    }
                    Input::Line(line) => self.command(&line, screen),
                    Input::Broken(why) => {
                        self.refuse(&format!("the input cannot be read any further: {why}"), screen);
                        self.input_ended = true;
                        self.leave(screen);
                        Vec::new()
                    }
                    Input::End => {
                        self.input_ended = true;
                        // At a terminal that is the wish to leave; whoever follows a pipe stays.
                        if self.interactive || !self.follow {
                            self.leave(screen);
                        }
                        Vec::new()
                    }
                    Input::Interrupted => break,
                },
                news = news(&mut self.line) => self.heard(news, screen)?,
                () = until(next_due) => self.session.tick(Instant::now()),
                () = self.context.stop.cancelled() => break,
            };
            self.do_all(steps, screen)?;
        }
        self.unsaid = self.session.waiting() as u64;
        if let Line::Up(link) = std::mem::replace(&mut self.line, Line::Down(Instant::now())) {
            link.close().await;
        }
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        let redial = match self.line {
            Line::Down(at) => Some(at),
            Line::Up(_) => None,
        };
        [self.session.next_due(), redial, self.leave_by].into_iter().flatten().min()
    }

    fn leave(&mut self, screen: &mut Screen) {
        self.leave_by.get_or_insert_with(|| Instant::now() + LEAVE_WITHIN);
        if self.interactive && !self.has_done() {
            self.say_goodbye(screen);
        }
    }

    fn say_goodbye(&self, screen: &mut Screen) {
        let text = match self.session.waiting() {
            1 => "a message is still to be sent; Ctrl-C leaves without it".to_owned(),
            waiting => format!("{waiting} messages are still to be sent; Ctrl-C leaves without them"),
        };
        screen.remark(self.context, &text);
    }

    /// Whether there is nothing to stay for. Who leaves a terminal no longer cares for answers.
    fn has_done(&self) -> bool {
        if self.interactive { self.session.waiting() == 0 } else { self.session.is_idle() }
    }

    /// Why a script that has said everything is not done.
    fn no_answer(&self) -> CliError {
        let stage = &self.door.stage.settings.stage;
        let user = &self.door.user;
        let message = if self.session.was_welcomed() {
            format!("stage {stage} has not answered everything that was asked")
        } else {
            format!("stage {stage} does not greet {user}")
        };
        CliError::failed("no_answer", message)
            .help(format!("`chatctl logs on_message --stage {stage}` may have the reason"))
    }

    fn command(&mut self, line: &str, screen: &mut Screen) -> Vec<Step> {
        let now = Instant::now();
        let command = match Command::parse(line, &self.session.user) {
            Ok(command) => command,
            Err(why) => {
                self.refuse(&why, screen);
                return Vec::new();
            }
        };
        let here = self.session.current().map(str::to_owned);
        match (command, here) {
            (Command::Nothing, _) => Vec::new(),
            (Command::Enter(room), _) => self.session.enter(&room, now),
            (Command::SayTo { room, text }, _) => self.session.say(&room, &text, now),
            (Command::Leave(Some(room)), _) => self.session.leave(&room, now),
            (Command::Help, _) => {
                screen.remark(self.context, HELP);
                Vec::new()
            }
            (Command::Rooms, _) => {
                let rooms: Vec<String> =
                    self.session.rooms().map(|room| render::short(room, &self.session.user)).collect();
                screen.remark(self.context, &rooms.join(", "));
                Vec::new()
            }
            (Command::Quit, _) => {
                self.input_ended = true;
                self.leave(screen);
                Vec::new()
            }
            (Command::Say(text), Some(room)) => self.session.say(&room, &text, now),
            (Command::Leave(None), Some(room)) => self.session.leave(&room, now),
            (Command::Who, Some(room)) => self.session.who(&room, now),
            (Command::History(limit), Some(room)) => self.session.look(&room, limit, now),
            (Command::Say(_) | Command::Leave(None) | Command::Who | Command::History(_), None) => {
                self.refuse("you are in no room: /join ROOM", screen);
                Vec::new()
            }
        }
    }

    /// Says why a line comes to nothing. A script has to hear of it at its end, too.
    fn refuse(&mut self, why: &str, screen: &mut Screen) {
        self.session.not_sent += 1;
        screen.remark(self.context, why);
    }

    fn heard(&mut self, news: News, screen: &mut Screen) -> Result<Vec<Step>> {
        let now = Instant::now();
        match news {
            News::Opened => {
                self.opened_at = Some(now);
                Ok(self.session.opened(now))
            }
            News::Frame(text) => {
                let steps = self.session.received(&text, now);
                if self.session.is_online() {
                    self.reason = None;
                }
                Ok(steps)
            }
            News::NotOpened(why) => {
                self.failures += 1;
                let refused = matches!(&why, NoSocket::Refused { status: 401 | 403, .. });
                if refused || matches!(why, NoSocket::Malformed(_)) || self.is_hopeless() {
                    return Err(self.no_entry(&why));
                }
                self.redial(&why.to_string(), screen);
                Ok(Vec::new())
            }
            News::Closed(how) => {
                self.ended(&how, screen)?;
                Ok(Vec::new())
            }
        }
    }

    fn is_hopeless(&self) -> bool {
        !self.session.was_welcomed() && self.failures >= FIRST_ATTEMPTS
    }

    /// An open connection has ended.
    fn ended(&mut self, how: &str, screen: &mut Screen) -> Result<()> {
        let lasted = self.opened_at.take().is_some_and(|at| at.elapsed() >= STABLE_AFTER);
        // One that was never greeted was not a good one, however long it lasted.
        self.failures = if lasted && self.session.is_online() { 0 } else { self.failures + 1 };
        if self.is_hopeless() {
            return Err(self.no_answer());
        }
        self.redial(how, screen);
        Ok(())
    }

    fn redial(&mut self, reason: &str, screen: &mut Screen) {
        self.session.closed();
        let most = BACK_OFF.saturating_mul(2_u32.saturating_pow(self.failures.min(10))).min(BACK_OFF_MAX);
        // At once after a connection that was good: most end because their time was over.
        let wait = if self.failures == 0 { Duration::ZERO } else { most.mul_f64(0.5 + 0.5 * fraction()) };
        self.line = Line::Down(Instant::now() + wait);
        let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let event = Event::Disconnected { reason: reason.to_owned(), retry_ms };
        // People are told once: while it lasts, the prompt shows it.
        let news = self.reason.replace(reason.to_owned()).as_deref() != Some(reason);
        if news || self.context.output.mode == Mode::Json {
            screen.show(self.context, &event, &self.session.user);
        }
    }

    fn no_entry(&self, why: &NoSocket) -> CliError {
        let stage = &self.door.stage.settings.stage;
        let user = &self.door.user;
        match why {
            NoSocket::Refused { status, .. }
                if self.session.was_welcomed() || matches!(status, 401 | 403) =>
            {
                CliError::refused("not_let_in", format!("stage {stage} does not let {user} in: {status}"))
                    .help(format!(
                        "`chatctl logs connect --stage {stage}` has the reason, if the function was asked"
                    ))
            }
            _ => CliError::failed("not_connected", format!("failed to connect to {}: {why}", self.door.url))
                .help(format!("`chatctl status --stage {stage}` shows what is deployed")),
        }
    }

    fn do_all(&mut self, steps: Vec<Step>, screen: &mut Screen) -> Result<()> {
        for step in steps {
            match step {
                Step::Send(frame) => self.send(&frame),
                Step::Redial(reason) => {
                    // Who waits for the next one already goes on waiting.
                    if matches!(self.line, Line::Up(_))
                        && let Line::Up(link) = std::mem::replace(&mut self.line, Line::Down(Instant::now()))
                    {
                        tokio::spawn(link.close());
                        self.ended(&reason, screen)?;
                    }
                }
                Step::Show(event) => {
                    screen.show(self.context, &event, &self.session.user);
                    if let Event::Refused { action, room, code, message } = &event {
                        self.end_if_in_vain(action, room.as_deref(), &format!("{message} ({code})"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Who is not greeted can do nothing. Who may not join a room can go elsewhere, but a script cannot.
    fn end_if_in_vain(&self, action: &str, room: Option<&str>, why: &str) -> Result<()> {
        match (action, room) {
            ("hello", _) => Err(CliError::refused("not_let_in", format!("the server does not greet: {why}"))),
            ("join", Some(room)) if !self.interactive => {
                Err(CliError::refused("not_joined", format!("{room} could not be joined: {why}")))
            }
            _ => Ok(()),
        }
    }

    fn send(&self, frame: &Value) {
        if let Line::Up(link) = &self.line {
            link.send(frame);
        }
    }
}

async fn news(line: &mut Line) -> News {
    match line {
        Line::Up(link) => link.news().await,
        Line::Down(_) => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// From 0 to 1; where there is no randomness, all wait as long.
fn fraction() -> f64 {
    let mut byte = [u8::MAX];
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
