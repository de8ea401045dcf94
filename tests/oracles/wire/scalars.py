"""Texts of the wire as values: numbers, flags, times, bytes. Strictly: what a lenient parser would let pass is noted."""

import base64
import binascii
import re
from datetime import timezone

from botocore.utils import parse_timestamp

from .findings import shown

WRITTEN = {
    "iso8601": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    "rfc822": re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"),
    "unixtimestamp": re.compile(r"\d+(\.\d+)?"),
}


def from_text(shape, text, path, findings, times="iso8601"):
    """The value that a text in a form, an XML element, a header or a path means; None if it means none."""
    kind = shape.type_name
    try:
        if kind in ("integer", "long"):
            if not re.fullmatch(r"-?\d+", text):
                raise ValueError("no whole number")
            return int(text)
        if kind in ("float", "double"):
            return float(text)
        if kind == "boolean":
            if text not in ("true", "false"):
                raise ValueError("neither true nor false")
            return text == "true"
        if kind == "timestamp":
            return timestamp(shape, text, times)
        if kind == "blob":
            return bytes_of(text)
    except ValueError as error:
        findings.note(path, f"{shown(text)} is no {kind}: {error}")
        return None
    return text


def timestamp(shape, written, usual):
    """A time in the notation of the shape, or the usual one of the place where it stands."""
    notation = shape.serialization.get("timestampFormat", usual).lower()
    is_number = isinstance(written, (int, float)) and not isinstance(written, bool)
    if not isinstance(written, str) and not (is_number and notation == "unixtimestamp"):
        raise ValueError(f"not in the notation {notation}")
    if isinstance(written, str) and not WRITTEN[notation].fullmatch(written):
        raise ValueError(f"not in the notation {notation}")
    return parse_timestamp(written).astimezone(timezone.utc)


def bytes_of(text):
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
