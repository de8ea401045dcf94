//! The measurements: connects, round trips, fan-out, talking pairs. Each uses rooms and users of its own, so that
//! the ledger can demand every number from 1 on.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use tokio::time::timeout;

use super::connection::{Event, PATIENCE, Shared};
use super::{Connection, LoadError, Losses, Target};

/// Connections that are being opened at a time.
const OPENING: usize = 64;

/// A number of things that took a time, with what went wrong meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub count: u64,
    pub took: Duration,
    pub losses: Losses,
}

impl Pace {
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// Opens `count` connections, each for a user of its own, and keeps them open.
pub async fn connects(
    target: &Target,
    run: &str,
    count: usize,
) -> Result<(Pace, Vec<Connection>), LoadError> {
    let started = Instant::now();
    let connections = open(target, run, count).await?;
    let pace = Pace { count: count as u64, took: started.elapsed(), losses: Losses::default() };
    Ok((pace, connections))
}

async fn open(target: &Target, run: &str, count: usize) -> Result<Vec<Connection>, LoadError> {
    let users: Vec<String> = (0..count).map(|n| format!("{run}.{n}")).collect();
    let mut waiting = users.iter().enumerate();
    let mut opening = FuturesUnordered::new();
    let mut open = Vec::with_capacity(count);
    loop {
        while opening.len() < OPENING
            && let Some((n, user)) = waiting.next()
        {
            opening.push(Connection::open(target, user, n));
        }
        match opening.next().await {
            Some(connection) => open.push(connection?),
            None => return Ok(open),
        }
    }
}

/// Opens `count` connections that all enter the room `room(n)`.
async fn enter(
    target: &Target,
    run: &str,
    shared: &Rc<Shared>,
    count: usize,
    room: impl Fn(usize) -> String,
) -> Result<Vec<Connection>, LoadError> {
    let mut connections = Vec::with_capacity(count);
    let mut entering = FuturesUnordered::new();
    let mut waiting = open(target, run, count).await?.into_iter();
    let mut n = 0;
    loop {
        while entering.len() < OPENING
            && let Some(mut connection) = waiting.next()
        {
            let room = room(n);
            n += 1;
            entering.push(async move {
                connection.enter(shared, &room).await?;
                Ok::<_, LoadError>((room, connection))
            });
        }
        match entering.next().await {
            Some(entered) => connections.push(entered?),
            None => break,
        }
    }
    connections.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(connections.into_iter().map(|(_, connection)| connection).collect())
}

/// One client alone: how long from a send until it is stored, acknowledged and has come back, in microseconds.
pub async fn round_trips(
    target: &Target,
    run: &str,
    sends: u64,
) -> Result<(Histogram<u64>, Losses), LoadError> {
    let shared = Rc::new(Shared::default());
    let mut alone = enter(target, run, &shared, 1, |_| run.to_owned()).await?;
    let connection = &mut alone[0];
    let mut times = Histogram::new(3).map_err(|e| LoadError::new(e.to_string()))?;
    // The first tenth warms both sides up.
    for number in 1..=sends + sends / 10 {
        let begun = Instant::now();
        let mid = connection.say(run, number).await?;
        let settled = connection.settled(&shared, &mid).await?;
        if number > sends / 10 {
            let micros = u64::try_from((settled - begun).as_micros()).unwrap_or(u64::MAX);
            times.record(micros).map_err(|e| LoadError::new(e.to_string()))?;
        }
    }
    close(alone).await;
    Ok((times, shared.ledger.borrow().close()))
}

/// One member of a room of `members` sends, the next message when everybody has the last: deliveries a second.
pub async fn fan_out(target: &Target, run: &str, members: usize, sends: u64) -> Result<Pace, LoadError> {
    let shared = Rc::new(Shared::default());
    let mut room = enter(target, run, &shared, members, |_| run.to_owned()).await?;
    let sender = &mut room[0];
    let mut begun = Instant::now();
    for number in 0..=sends {
        if number == 1 {
            // The first message has warmed up the handlers' connections.
            begun = Instant::now();
        }
        let mid = sender.say(run, number + 1).await?;
        sender.settled(&shared, &mid).await?;
        everything_delivered(&shared).await?;
    }
    let took = begun.elapsed();
    close(room).await;
    let losses = shared.ledger.borrow().close();
    Ok(Pace { count: sends * members as u64, took, losses })
}

/// Pairs talk in turns, each in a room of its own: messages a second over all pairs.
pub async fn pairs(target: &Target, run: &str, pairs: usize, turns: u64) -> Result<Pace, LoadError> {
    let shared = Rc::new(Shared::default());
    let room = |n: usize| format!("{run}.{:04}", n / 2);
    let connections = enter(target, run, &shared, pairs * 2, room).await?;
    let begun = Instant::now();
    let mut talks = FuturesUnordered::new();
    let mut members = connections.into_iter();
    let mut n = 0;
    while let (Some(first), Some(second)) = (members.next(), members.next()) {
        talks.push(talk(Rc::clone(&shared), room(n), first, second, turns));
        n += 2;
    }
    let mut left = Vec::new();
    while let Some(pair) = talks.next().await {
        left.extend(pair?);
    }
    let took = begun.elapsed();
    close(left).await;
    let losses = shared.ledger.borrow().close();
    Ok(Pace { count: pairs as u64 * turns, took, losses })
}

async fn talk(
    shared: Rc<Shared>,
    room: String,
    mut speaker: Connection,
    mut listener: Connection,
    turns: u64,
) -> Result<[Connection; 2], LoadError> {
    for turn in 0..turns {
        let mid = speaker.say(&room, turn / 2 + 1).await?;
        heard(&mut listener, &mid).await?;
        speaker.settled(&shared, &mid).await?;
        std::mem::swap(&mut speaker, &mut listener);
    }
    Ok([speaker, listener])
}

async fn heard(listener: &mut Connection, wanted: &str) -> Result<(), LoadError> {
    loop {
        if let Event::Delivery { mid, .. } = listener.event().await?
            && mid == wanted
        {
            return Ok(());
        }
    }
}

/// Waits until every acknowledged message is with every member of its room.
async fn everything_delivered(shared: &Shared) -> Result<(), LoadError> {
    let complete = || {
        let ledger = shared.ledger.borrow();
        ledger.delivered() >= ledger.owed()
    };
    let waiting = async {
        loop {
            let woken = shared.delivered.notified();
            if complete() {
                return;
            }
            woken.await;
        }
    };
    timeout(PATIENCE, waiting).await.map_err(|_| {
        let ledger = shared.ledger.borrow();
        LoadError::new(format!("{} of {} deliveries arrived", ledger.delivered(), ledger.owed()))
    })
}

/// Closes connections and waits until the server has closed them too.
pub async fn close(connections: Vec<Connection>) {
    let mut leaving: FuturesUnordered<_> = connections.into_iter().map(Connection::leave).collect();
    while leaving.next().await.is_some() {}
}
