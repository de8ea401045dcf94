//! `$connect`: the authorizer has spoken, so the connection is registered. It is in no room until it says so.

use crate::chat::{Caller, Failure};
use crate::event::{Response, Upgrade};
use crate::ids::DeviceId;
use crate::ports::{Connection, Store};
use crate::protocol::SUBPROTOCOL;

/// Registers the connection and selects the subprotocol, if it was offered.
pub async fn connect<S: Store>(store: &S, caller: Option<&Caller<'_>>, event: &Upgrade) -> Response {
    let Some(caller) = caller else {
        // Without an authorizer in front of it nobody is anybody.
        return Response::status(401);
    };
    let connection = Connection {
        user: caller.identity.user.clone(),
        conn: caller.conn.clone(),
        device: event.query("device").and_then(DeviceId::parse),
        at_s: caller.connected_at_s,
        expires_s: caller.forget_at_s(),
    };
    if let Err(error) = store.register(&connection).await {
        return Failure::from(error).into_response(caller.invocation.request_id);
    }
    let mut response = Response::status(200);
    if event.subprotocols().any(|offer| offer == SUBPROTOCOL) {
        response.headers.insert("Sec-WebSocket-Protocol", SUBPROTOCOL);
    }
    response
}
