//! Events as people read them.

use console::{Style, StyledObject, style};
use jiff::{Timestamp, ZonedDateTime};

use super::session::{Event, Presence, peer};
use crate::output::visible;

/// A further line of a message begins below its text, so that it cannot pass for another message.
const INDENT: &str = "\n         ";

/// What a reader tells people apart by, besides their names.
const COLORS: [fn(Style) -> Style; 6] =
    [Style::cyan, Style::green, Style::magenta, Style::yellow, Style::blue, Style::red];

/// An event as `me` reads it at the moment `now`.
pub(crate) fn render(event: &Event, me: &str, now: &ZonedDateTime) -> String {
    match event {
        Event::Message { room, from, ts, text, .. } => {
            let lines: Vec<String> = text.trim_end().split('\n').map(visible).collect();
            let time = style(time(*ts, now)).dim();
            let room = style(short(room, me)).dim();
            format!("{time} {room} {}: {}", name(from, me), lines.join(INDENT))
        }
        Event::Who { room, users, more } => {
            let users: Vec<String> = users.iter().map(|user| name(user, me).to_string()).collect();
            let more = if *more { ", and more" } else { "" };
            format!("{}: {}{more}", style(short(room, me)).dim(), users.join(", "))
        }
        Event::NotSent { room, text, code, message } => {
            let sign = style("not sent").red().bold();
            format!("{sign} to {}: {} ({})", short(room, me), visible(text), reason(code, message))
        }
        Event::Refused { action, room, code, message } => {
            let room = room.as_ref().map(|room| format!(" {}", short(room, me))).unwrap_or_default();
            let sign = style("refused").red().bold();
            format!("{sign} {}{room}: {}", visible(action), reason(code, message))
        }
        remark => style(format!("· {}", self::remark(remark, me))).dim().to_string(),
    }
}

/// What is about the chat, and not said in it.
fn remark(event: &Event, me: &str) -> String {
    match event {
        Event::Connected { user } => format!("connected as {}", visible(user)),
        Event::Disconnected { reason, .. } => {
            format!("not connected, trying again: {}", visible(reason))
        }
        Event::Entered { room } => format!("now in {}", short(room, me)),
        Event::Left { room } => format!("left {}", short(room, me)),
        Event::Presence { room, user, state } => {
            let what = match state {
                Presence::Online => "is here",
                Presence::Offline => "has left",
            };
            format!("{}: {} {what}", short(room, me), visible(user))
        }
        Event::Direct { rooms } => {
            let rooms: Vec<String> = rooms.iter().map(|room| short(room, me)).collect();
            format!("there are messages in {}; /join shows them", rooms.join(", "))
        }
        Event::Gap { room, from, to } if from == to => {
            format!("{}: message {from} is passed over", short(room, me))
        }
        Event::Gap { room, from, to } => {
            format!("{}: messages {from} to {to} are passed over", short(room, me))
        }
        Event::BeganAnew { room } => {
            format!("{}: everything has expired, it begins anew", short(room, me))
        }
        Event::Message { .. } | Event::Who { .. } | Event::NotSent { .. } | Event::Refused { .. } => {
            String::new()
        }
    }
}

/// A room of two is called like the other one, with the sign that tells users from rooms.
pub(crate) fn short(room: &str, me: &str) -> String {
    peer(room, me).map_or_else(|| visible(room), |peer| format!("@{}", visible(peer)))
}

fn name(user: &str, me: &str) -> StyledObject<String> {
    if user == me {
        return style(visible(user)).bold();
    }
    let sum = user.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    let color = COLORS.get(sum % COLORS.len()).map_or_else(Style::new, |color| color(Style::new()));
    color.apply_to(visible(user))
}

fn reason(code: &str, message: &str) -> String {
    format!("{}, {}", visible(message), visible(code))
}

/// The time of the day, with the day if it is another one.
fn time(ts_ms: u64, now: &ZonedDateTime) -> String {
    let at =
        i64::try_from(ts_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let at = at.to_zoned_datetime(now.time_zone().clone());
    let format = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn shown(event: &Event) -> String {
        let now: Timestamp = "2026-11-25T08:00:00Z".parse().unwrap();
        let text = render(event, "alice", &now.to_zoned_datetime(TimeZone::UTC));
        console::strip_ansi_codes(&text).into_owned()
    }

    fn message(room: &str, from: &str, text: &str) -> Event {
        let (room, from, text) = (room.into(), from.into(), text.into());
        Event::Message { room, seq: 1, from, ts: 1_795_590_184_000, text, old: false }
    }

    #[test]
    fn a_message_says_when_where_and_who() {
        assert_eq!(shown(&message("lobby", "bob", "hi")), "07:03:04 lobby bob: hi");
        assert_eq!(shown(&message("@alice,bob", "bob", "hi")), "07:03:04 @bob bob: hi");
        assert_eq!(shown(&message("lobby", "bob", "a\nb\n")), "07:03:04 lobby bob: a\n         b");
        let old = Event::Message {
            room: "lobby".into(),
            seq: 1,
            from: "bob".into(),
            ts: 1_795_400_000_000,
            text: "hi".into(),
            old: true,
        };
        assert_eq!(shown(&old), "2026-11-23 02:13 lobby bob: hi");
    }

    #[test]
    fn nobody_reaches_the_terminal_through_a_message() {
        let text = shown(&message("lobby", "bob", "\u{1b}]0;owned\u{7}\r07:03:05 lobby carol: no\u{202e}"));
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
    }

    #[test]
    fn what_is_about_the_chat_reads_like_a_sentence() {
        for (event, text) in [
            (Event::Connected { user: "alice".into() }, "· connected as alice"),
            (
                Event::Disconnected { reason: "the connection ended".into(), retry_ms: 1_500 },
                "· not connected, trying again: the connection ended",
            ),
            (
                Event::Direct { rooms: vec!["@alice,bob".into()] },
                "· there are messages in @bob; /join shows them",
            ),
            (Event::Gap { room: "r".into(), from: 3, to: 3 }, "· r: message 3 is passed over"),
            (
                Event::Who { room: "r".into(), users: vec!["alice".into(), "bob".into()], more: true },
                "r: alice, bob, and more",
            ),
            (
                Event::NotSent {
                    room: "r".into(),
                    text: "hi".into(),
                    code: "FORBIDDEN".into(),
                    message: "you are banned".into(),
                },
                "not sent to r: hi (you are banned, FORBIDDEN)",
            ),
        ] {
            assert_eq!(shown(&event), text);
        }
    }
}
