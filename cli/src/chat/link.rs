//! One connection, on a task of its own: frames go in and come out, until it ends.

use std::time::Duration;

use chat_stacks::socket::{Caller, Message, NoSocket, Socket, dial};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The gateway itself gives up on a function after 29 s.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// A goodbye that nobody answers is one, too.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum News {
    Opened,
    Frame(String),
    /// It could not be opened.
    NotOpened(NoSocket),
    /// It was open, and has ended.
    Closed(String),
}

/// A connection that is being opened, or is open.
#[derive(Debug)]
pub(crate) struct Link {
    frames: UnboundedSender<String>,
    news: UnboundedReceiver<News>,
    task: JoinHandle<()>,
}

impl Link {
    pub(crate) fn open(url: String, caller: Caller) -> Self {
        let (frames, mut to_send) = unbounded_channel::<String>();
        let (tell, news) = unbounded_channel();
        let task = tokio::spawn(async move {
            let dialled = timeout(OPEN_WITHIN, dial(&url, &caller)).await.unwrap_or_else(|_| {
                Err(NoSocket::Unreachable(format!("no answer within {} s", OPEN_WITHIN.as_secs())))
            });
            // Nobody is left to be told if that fails, here and below.
            let _ = match dialled {
                Ok(socket) => {
                    let _ = tell.send(News::Opened);
                    let how = talk(socket, &mut to_send, &tell).await;
                    tell.send(News::Closed(how))
                }
                Err(why) => tell.send(News::NotOpened(why)),
            };
        });
        Self { frames, news, task }
    }

    pub(crate) fn send(&self, frame: &serde_json::Value) {
        // A connection that has ended says so itself.
        let _ = self.frames.send(frame.to_string());
    }

    /// What happens next.
    pub(crate) async fn news(&mut self) -> News {
        self.news.recv().await.unwrap_or_else(|| News::Closed("it is gone".to_owned()))
    }

    /// Says goodbye and waits for the end.
    pub(crate) async fn close(self) {
        let Self { frames, news, mut task } = self;
        drop((frames, news));
        if timeout(GOODBYE_WITHIN, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// Says how it ended.
async fn talk(
    mut socket: Socket,
    to_send: &mut UnboundedReceiver<String>,
    tell: &UnboundedSender<News>,
) -> String {
    loop {
        tokio::select! {
            frame = to_send.recv() => {
                let Some(frame) = frame else {
                    let _ = socket.close(None).await;
                    while let Some(Ok(_)) = socket.next().await {}
                    return "closed".to_owned();
                };
                if let Err(why) = socket.send(Message::text(frame)).await {
                    return why.to_string();
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let _ = tell.send(News::Frame(text.to_string()));
                }
                Some(Ok(Message::Close(frame))) => {
                    return frame.map_or_else(|| "the server closed the connection".to_owned(), |frame| {
                        format!("the server closed the connection: {frame}")
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(why)) => return why.to_string(),
                None => return "the connection ended".to_owned(),
            },
        }
    }
}
