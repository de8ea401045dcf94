"""The limits that a model sets to values: enums, patterns, lengths, ranges. botocore itself checks few of them."""

import regex

from .findings import shown

def check(shape, value, path, findings, answered=False):
    """Answers may have an empty list or map where callers may not send one."""
    kind = shape.type_name
    allowed = getattr(shape, "enum", None)
    if kind == "string" and allowed and value not in allowed:
        findings.note(path, f"{shown(value)} is not among {', '.join(allowed[:12])}")
    limits = shape.metadata
    if kind in ("string", "blob", "list", "map"):
        size, unit = len(value), "long"
    elif kind in ("integer", "long", "float", "double"):
        size, unit = value, "large"
    else:
        return
    if answered and kind in ("list", "map") and not size:
        return
    if "min" in limits and size < limits["min"]:
        findings.note(path, f"{shown(value)} is {size} {unit}, less than {limits['min']} ({shape.name})")
    if "max" in limits and size > limits["max"]:
        findings.note(path, f"{shown(value)} is {size} {unit}, more than {limits['max']} ({shape.name})")
    pattern = limits.get("pattern")
    if kind == "string" and pattern:
        # The services match the whole value, whether or not a pattern says so.
        if not regex.fullmatch(pattern, value):
            findings.note(path, f"{shown(value)} does not match {pattern} ({shape.name})")
