//! Names that the protocol takes.

/// Whether this can be a user or a room. It also keeps `#` out of the table's keys.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}
