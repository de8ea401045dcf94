//! Durations and moments as people write them: `90s`, `10m`, `1h`, `2d`, or RFC 3339.

use jiff::{SignedDuration, Timestamp};

/// `90s`, `10m`, `12h`, `7d`; parts may be joined as in `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text.trim();
    let mut total = SignedDuration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |next| digits + next);
        let seconds = match &rest[digits..unit] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        total = total.checked_add(SignedDuration::from_secs(count.checked_mul(seconds)?))?;
        rest = &rest[unit..];
    }
    Some(total)
}

/// A moment in the past: so long ago, or at that time.
pub(crate) fn parse_since(text: &str, now: Timestamp) -> Option<Timestamp> {
    match parse_duration(text) {
        Some(ago) => now.checked_sub(ago).ok(),
        None => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("7d", 604_800), (" 2h ", 7200)] {
            assert_eq!(parse_duration(text), Some(SignedDuration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_duration() {
        for text in
            ["", "10", "h", "-5m", "1.5h", "10 m", "9999999999999999999s", "9223372036854775807d", "5µs"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn since_is_a_duration_or_a_moment() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        assert_eq!(parse_since("10m", now), Some("2026-11-24T07:50:00Z".parse().unwrap()));
        assert_eq!(
            parse_since("2026-11-23T10:00:00+02:00", now),
            Some("2026-11-23T08:00:00Z".parse().unwrap())
        );
        assert_eq!(parse_since("yesterday", now), None);
    }
}
