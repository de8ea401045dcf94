//! The little XML that S3 takes: elements whose text matters, whatever they stand in.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The elements that hold text, in their order; `None` for what is no XML.
pub(super) fn leaves(body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    let mut leaves = Vec::new();
    let mut open: Vec<(String, String, bool)> = Vec::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                if let Some((_, _, has_children)) = open.last_mut() {
                    *has_children = true;
                }
                let name = start.local_name().as_ref().to_owned();
                open.push((name, String::new(), false));
            }
            Event::Text(piece) => {
                if let Some((_, content, _)) = open.last_mut() {
                    content.push_str(&piece);
                }
            }
            Event::GeneralRef(entity) => {
                let letter = match (entity.resolve_char_ref().ok()?, &*entity) {
                    (Some(letter), _) => letter,
                    (None, "lt") => '<',
                    (None, "gt") => '>',
                    (None, "amp") => '&',
                    (None, "quot") => '"',
                    (None, "apos") => '\'',
                    (None, _) => return None,
                };
                open.last_mut()?.1.push(letter);
            }
            Event::End(_) => {
                let (name, content, has_children) = open.pop()?;
                if !has_children {
                    leaves.push((name, content));
                }
            }
            Event::Eof => return open.is_empty().then_some(leaves),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::leaves;

    #[test]
    fn leaves_come_with_their_text_and_entities_are_resolved() {
        let body = b"<?xml version=\"1.0\"?><T xmlns=\"x\"><S><G><K>a</K><V>b &amp; &#99;</V></G></S></T>";
        let expected = [("K".to_owned(), "a".to_owned()), ("V".to_owned(), "b & c".to_owned())];
        assert_eq!(leaves(body).unwrap(), expected);
    }

    #[test]
    fn what_is_no_xml_is_refused() {
        for body in ["<a><b></a>", "<a>", "<a>&nope;</a>"] {
            assert_eq!(leaves(body.as_bytes()), None, "{body}");
        }
    }
}
