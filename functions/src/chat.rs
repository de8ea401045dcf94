//! The chat: takes one event, lets the rule for it run, and turns whatever comes out into an answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::auth::{self, Identity};
use crate::event::{RequestContext, Response};
use crate::ids::{ConnectionId, FrameId};
use crate::log::{self, Level};
use crate::ports::{Gateway, Recipient, Store, StoreError};
use crate::protocol::{self, CONNECTION_MAX_S, ClientFrame, Code, Refusal, ServerFrame};
use crate::settings::Limits;

/// A connection is forgotten ten minutes after API Gateway must have ended it, if nobody said so before.
const FORGET_AFTER_S: u64 = CONNECTION_MAX_S + 10 * 60;
/// Of what is left of an invocation, this share at most is kept for what comes after its posts: forgetting the
/// connections that are gone, and the answer.
const KEPT_SHARE: u32 = 4;
/// More than this is not needed for that.
const KEPT_MAX: Duration = Duration::from_secs(1);

/// The invocation that something happens in.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    pub request_id: &'a str,
    pub now_ms: u64,
    /// Posts that have not begun by now are not begun any more: Lambda is about to end the invocation.
    pub posts_until: Instant,
    /// The function as it was invoked, alias included, where posts may be handed over to another invocation of it.
    pub relay: Option<&'a str>,
}

impl<'a> Invocation<'a> {
    /// One that makes all of its posts itself. `deadline_ms` is when Lambda ends it.
    pub fn of(request_id: &'a str, now_ms: u64, deadline_ms: u64) -> Self {
        let left = Duration::from_millis(deadline_ms.saturating_sub(now_ms));
        let posts_until = Instant::now() + left - KEPT_MAX.min(left / KEPT_SHARE);
        Self { request_id, now_ms, posts_until, relay: None }
    }

    pub fn now_s(&self) -> u64 {
        self.now_ms / 1000
    }
}

/// Who says something, over which connection, when.
#[derive(Debug)]
pub struct Caller<'a> {
    pub identity: Identity,
    pub conn: ConnectionId,
    pub connected_at_s: u64,
    pub invocation: Invocation<'a>,
}

impl<'a> Caller<'a> {
    /// Everything here is the gateway's word; `None` if it did not say who this is.
    pub fn of(context: &RequestContext, invocation: Invocation<'a>) -> Option<Self> {
        let conn = ConnectionId::parse(context.connection_id.as_deref()?)?;
        let now_ms = invocation.now_ms;
        let connected_at_s = if context.connected_at == 0 { now_ms } else { context.connected_at } / 1000;
        Some(Self { identity: auth::identity(context)?, conn, connected_at_s, invocation })
    }

    pub fn now_s(&self) -> u64 {
        self.invocation.now_s()
    }

    /// When this connection counts as gone.
    pub fn forget_at_s(&self) -> u64 {
        self.connected_at_s + FORGET_AFTER_S
    }

    /// When this connection ends at the latest: with the token, or by API Gateway's maximum.
    pub fn ends_at_s(&self) -> u64 {
        let maximum = self.connected_at_s + CONNECTION_MAX_S;
        self.identity.expires.map_or(maximum, |expires| expires.min(maximum))
    }

    /// This connection as somebody who gets messages.
    pub fn as_recipient(&self) -> Recipient {
        Recipient {
            user: self.identity.user.clone(),
            conn: self.conn.clone(),
            expires_s: self.forget_at_s(),
            at_s: Some(self.connected_at_s),
        }
    }
}

/// Why a rule did not give the wanted answer.
#[derive(Debug)]
pub enum Failure {
    Refused(Refusal),
    Store(StoreError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a rule answers: the frame for the sender, as JSON.
pub type Answer = Result<String, Failure>;

/// The rules, over whatever keeps and carries.
#[derive(Debug)]
pub struct Chat<S, G> {
    pub store: S,
    pub gateway: G,
    pub limits: Limits,
}

impl<S: Store, G: Gateway> Chat<S, G> {
    /// `$default`: one frame, one answer, whatever the frame.
    pub async fn received(&self, caller: Option<&Caller<'_>>, body: &str) -> String {
        let frame = match protocol::parse(body) {
            Ok(frame) => frame,
            Err((id, refusal)) => return refused(id.as_ref(), &refusal),
        };
        let id = frame.id().cloned();
        let outcome = match caller {
            None => Err(Refusal::new(Code::Unauthenticated, "this connection has no identity").into()),
            Some(caller) if caller.identity.expires.is_some_and(|end| end <= caller.now_s()) => {
                let why = "the token has expired: connect again with a fresh one";
                Err(Refusal::new(Code::TokenExpired, why).into())
            }
            Some(caller) => self.act(caller, frame).await,
        };
        match outcome {
            Ok(answer) => answer,
            Err(failure) => {
                let request_id = caller.map_or("", |caller| caller.invocation.request_id);
                refused(id.as_ref(), &failure.into_refusal(request_id))
            }
        }
    }

    async fn act(&self, caller: &Caller<'_>, frame: ClientFrame) -> Answer {
        match frame {
            ClientFrame::Hello { id, device, resume } => {
                self.hello(caller, &id, device.as_ref(), resume).await
            }
            ClientFrame::Join { id, room } => self.join(caller, &id, &room).await,
            ClientFrame::Leave { id, room } => self.leave(caller, &id, &room).await,
            ClientFrame::Send { id, to, text } => self.send(caller, id, to, text).await,
            ClientFrame::History { id, room, range } => self.history(caller, &id, &room, range).await,
            ClientFrame::Who { id, room } => self.who(caller, &id, &room).await,
            // Only where the stage has no `ping` route; otherwise the gateway takes it.
            ClientFrame::Ping { id } => Ok(ServerFrame::Pong { id: id.as_ref() }.to_json()),
        }
    }
}

impl Failure {
    /// What the client may know of it. The rest goes to the log.
    pub fn into_refusal(self, request_id: &str) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Store(error @ StoreError::Unavailable(_)) => {
                log::line(Level::Warn, request_id, &error.to_string(), &[]);
                Refusal::new(Code::Unavailable, "busy, try again").retry_in(1_000)
            }
            Self::Store(error @ StoreError::Unexpected(_)) => {
                log::line(Level::Error, request_id, &error.to_string(), &[]);
                Refusal::new(Code::Internal, format!("something went wrong (request {request_id})"))
            }
        }
    }

    /// The answer to an event that has no frame to answer with, such as `$connect`.
    pub fn into_response(self, request_id: &str) -> Response {
        match self.into_refusal(request_id).code {
            Code::Unavailable => Response::status(503),
            _ => Response::status(500),
        }
    }
}

fn refused(id: Option<&FrameId>, refusal: &Refusal) -> String {
    ServerFrame::refusal(id, refusal).to_json()
}
