//! The chat: takes one event, lets the rule for it run, and turns whatever comes out into an answer.

use bytes::Bytes;

use crate::auth::{self, Identity};
use crate::event::{RequestContext, Response};
use crate::ids::{ConnectionId, FrameId, RoomName};
use crate::log::{self, Level};
use crate::ports::{Gateway, Recipient, Removal, Store, StoreError};
use crate::protocol::{self, CONNECTION_MAX_S, ClientFrame, Code, Refusal, ServerFrame};
use crate::settings::Limits;

/// A connection is forgotten ten minutes after API Gateway must have ended it, if nobody said so before.
const FORGET_AFTER_S: u64 = CONNECTION_MAX_S + 10 * 60;
/// A connection this young may still be inside its `$connect`, during which a post is answered with 410 as if it were
/// gone (aws-facts, behaviour). An integration has 29 s.
const CONNECTING_S: u64 = 30;

/// Who says something, over which connection, when.
#[derive(Debug)]
pub struct Caller<'a> {
    pub identity: Identity,
    pub conn: ConnectionId,
    pub connected_at_s: u64,
    pub now_ms: u64,
    pub request_id: &'a str,
}

impl<'a> Caller<'a> {
    /// Everything here is the gateway's word; `None` if it did not say who this is.
    pub fn of(context: &RequestContext, now_ms: u64, request_id: &'a str) -> Option<Self> {
        let conn = ConnectionId::parse(context.connection_id.as_deref()?)?;
        let connected_at_s = if context.connected_at == 0 { now_ms } else { context.connected_at } / 1000;
        Some(Self { identity: auth::identity(context)?, conn, connected_at_s, now_ms, request_id })
    }

    pub fn now_s(&self) -> u64 {
        self.now_ms / 1000
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
                let request_id = caller.map_or("", |caller| caller.request_id);
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

    /// Posts a frame to everybody in `to` and forgets the connections that turn out to be gone. `room` is where their
    /// subscriptions are.
    pub async fn deliver(
        &self,
        now_s: u64,
        request_id: &str,
        to: &[Recipient],
        room: Option<&RoomName>,
        frame: Bytes,
    ) {
        if to.is_empty() {
            return;
        }
        let connections: Vec<&ConnectionId> = to.iter().map(|recipient| &recipient.conn).collect();
        let outcome = self.gateway.post(&connections, frame).await;
        if !outcome.failed.is_empty() {
            // Not an error of the sender's: who missed it sees a gap in `seq` and asks history.
            log::line(
                Level::Warn,
                request_id,
                "some posts failed",
                &[
                    ("failed", outcome.failed.len().into()),
                    ("of", to.len().into()),
                    ("why", outcome.why.unwrap_or_default().into()),
                ],
            );
        }
        let mut removals = Vec::new();
        for recipient in outcome.gone.iter().filter_map(|&position| to.get(position)) {
            if recipient.at_s.is_some_and(|at| now_s < at + CONNECTING_S) {
                continue;
            }
            let (user, conn) = (recipient.user.clone(), recipient.conn.clone());
            if let Some(room) = room {
                removals.push(Removal::Subscription { room: room.clone(), conn: conn.clone() });
            }
            removals.push(Removal::Connection { user, conn });
        }
        if removals.is_empty() {
            return;
        }
        if let Err(why) = self.store.remove(&removals).await {
            // They expire by themselves, and the next post meets them again.
            let fields = [("items", removals.len().into()), ("why", why.to_string().into())];
            log::line(Level::Error, request_id, "gone connections could not be removed", &fields);
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
