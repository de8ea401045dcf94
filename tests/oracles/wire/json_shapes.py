"""JSON as the shapes of a model: every member known, every type right."""

from . import limits
from .findings import join, shown
from .scalars import bytes_of, timestamp

TYPES = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "character": str,
    "blob": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
}


class JsonReader:
    """`spare` are keys of the wire that are no members, such as `__type` of an error."""

    def __init__(self, findings, answered=False, nulls_mean_absent=False, spare=()):
        self.answered = answered
        self.findings = findings
        self.nulls_mean_absent = nulls_mean_absent
        self.spare = set(spare)

    def read(self, shape, value, path=""):
        kind = shape.type_name
        if getattr(shape, "is_document_type", False):
            return value
        if kind == "timestamp":
            try:
                return timestamp(shape, value, "unixtimestamp")
            except ValueError as error:
                self.findings.note(path, f"{shown(value)} is no timestamp: {error}")
                return None
        wanted = TYPES[kind]
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean"):
            self.findings.note(path, f"{shown(value)} is no {kind}")
            return None
        value = getattr(self, f"_{kind}", lambda _shape, value, _path: value)(shape, value, path)
        if value is not None:
            limits.check(shape, value, path, self.findings, self.answered)
        return value

    def members(self, shape, value, path, names):
        """Those members of a structure that are in the body, by the names they have there."""
        read = {}
        for key, item in value.items():
            name = names.get(key)
            if name is None:
                if key not in self.spare:
                    self.findings.note(join(path, key), f"{shape.name} has no such member; it is {shown(item)}")
            elif item is None:
                if not self.nulls_mean_absent:
                    self.findings.note(join(path, key), "null")
            else:
                read[name] = self.read(shape.members[name], item, join(path, key))
        return read

    def _structure(self, shape, value, path):
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        read = self.members(shape, value, path, names)
        required(shape, read, path, self.findings)
        return read

    def _list(self, shape, value, path):
        return [self.read(shape.member, item, f"{path}[{at}]") for at, item in enumerate(value)]

    def _map(self, shape, value, path):
        for key in value:
            self.read(shape.key, key, f"{path}[key {key}]")
        return {key: self.read(shape.value, item, f"{path}[{key}]") for key, item in value.items()}

    def _blob(self, _shape, value, path):
        try:
            return bytes_of(value)
        except ValueError as error:
            self.findings.note(path, f"no Base64: {error}")
            return None


def required(shape, read, path, findings):
    for name in shape.required_members:
        if name not in read:
            findings.note(join(path, name), "required, and missing")
    # DynamoDB's values are not marked as what they are.
    if (getattr(shape, "is_tagged_union", False) or shape.name == "AttributeValue") and len(read) != 1:
        findings.note(path, f"{len(read)} members where one is wanted: {', '.join(read)}")
