//! What a line of input means.

use super::session::direct_room;
use crate::ids::is_id;

/// How many messages `/history` shows unless told otherwise.
const HISTORY: u64 = 20;

/// The words that a line may begin with.
pub(crate) const HELP: &str = "\
/join ROOM        go into a room, or turn to it; /join @USER for the room of you two
/msg USER TEXT    say something to somebody, wherever you are
/who              who is in this room
/history [N]      the newest messages again
/rooms            the rooms you are in
/leave [ROOM]     leave this room, or that one
/quit             the end; so are Ctrl-D and Ctrl-C
//TEXT            a message that begins with a slash";

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Nothing,
    Say(String),
    Enter(String),
    Leave(Option<String>),
    SayTo { room: String, text: String },
    Who,
    History(u64),
    Rooms,
    Help,
    Quit,
}

impl Command {
    /// What `me` wants.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(line: &str, me: &str) -> Result<Self, String> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.trim().is_empty() {
            return Ok(Self::Nothing);
        }
        let Some(command) = line.strip_prefix('/') else { return Ok(Self::Say(line.to_owned())) };
        if command.starts_with('/') {
            return Ok(Self::Say(command.to_owned()));
        }
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let none = |command: Self| match rest {
            "" => Ok(command),
            _ => Err(format!("/{word} takes nothing more")),
        };
        match word {
            "join" | "j" if rest.is_empty() => Err("/join wants a room, or @ and a user".to_owned()),
            "join" | "j" => Ok(Self::Enter(room_of(rest, me)?)),
            "leave" if rest.is_empty() => Ok(Self::Leave(None)),
            "leave" => Ok(Self::Leave(Some(room_of(rest, me)?))),
            "msg" | "m" => match rest.split_once(char::is_whitespace) {
                Some((user, text)) => {
                    let room = room_of(&format!("@{}", user.trim_start_matches('@')), me)?;
                    Ok(Self::SayTo { room, text: text.trim().to_owned() })
                }
                None => Err("/msg wants a user and a text".to_owned()),
            },
            "who" | "w" => none(Self::Who),
            "history" | "h" if rest.is_empty() => Ok(Self::History(HISTORY)),
            "history" | "h" => match rest.parse() {
                Ok(count @ 1..=100) => Ok(Self::History(count)),
                _ => Err(format!("/history wants a number from 1 to 100, not {rest:?}")),
            },
            "rooms" => none(Self::Rooms),
            "help" | "?" => none(Self::Help),
            "quit" | "exit" | "q" => none(Self::Quit),
            _ => Err(format!("there is no /{word}: /help says what there is, and //{word} says it as it is")),
        }
    }
}

/// A room's name as the protocol has it: `bob` as it is, `@bob` as the room of `me` and bob.
///
/// # Errors
/// Why it cannot be one.
pub(crate) fn room_of(text: &str, me: &str) -> Result<String, String> {
    let (user, what) = match text.strip_prefix('@') {
        Some(user) => (Some(user), "user"),
        None => (None, "room"),
    };
    if !is_id(user.unwrap_or(text)) {
        return Err(format!(
            "{text:?} cannot be a {what}: names are 1 to 64 characters of A-Z a-z 0-9 _ . : -"
        ));
    }
    match user {
        Some(user) if user == me => Err("a room of two needs two".to_owned()),
        Some(user) => Ok(direct_room(me, user)),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str) -> Command {
        Command::parse(line, "alice").unwrap()
    }

    #[test]
    fn a_line_is_said_as_it_is() {
        for line in ["hello", "  indented", "a/b", "@bob hi", "trailing  "] {
            assert_eq!(understood(line), Command::Say(line.to_owned()));
        }
        assert_eq!(understood("//etc/hosts"), Command::Say("/etc/hosts".to_owned()));
        assert_eq!(understood("dos\r\n"), Command::Say("dos".to_owned()));
        for line in ["", "  ", "\n"] {
            assert_eq!(understood(line), Command::Nothing);
        }
    }

    #[test]
    fn commands_are_read() {
        for (line, command) in [
            ("/join lobby", Command::Enter("lobby".into())),
            ("/j @bob", Command::Enter("@alice,bob".into())),
            ("/join @Zoe", Command::Enter("@Zoe,alice".into())),
            ("/leave", Command::Leave(None)),
            ("/leave lobby", Command::Leave(Some("lobby".into()))),
            (
                "/msg bob  how are you",
                Command::SayTo { room: "@alice,bob".into(), text: "how are you".into() },
            ),
            ("/m @bob hi", Command::SayTo { room: "@alice,bob".into(), text: "hi".into() }),
            ("/who", Command::Who),
            ("/history", Command::History(20)),
            ("/history 100", Command::History(100)),
            ("/rooms", Command::Rooms),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(understood(line), command, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_not_said_aloud() {
        for line in [
            "/",
            "/joni lobby",
            "/join",
            "/join a b",
            "/join a#b",
            "/join @alice",
            "/join @",
            "/join @a,b",
            "/msg bob",
            "/msg",
            "/msg b,c hi",
            "/history 0",
            "/history 101",
            "/history x",
            "/who else",
            "/quit now",
        ] {
            assert!(Command::parse(line, "alice").is_err(), "{line}");
        }
    }
}
