"""A form of the Query protocol as the shapes of a model."""

from . import limits
from .findings import join
from .json_shapes import required
from .scalars import from_text


class QueryReader:
    def __init__(self, findings, form):
        self.findings = findings
        self.form = form
        self.used = set()

    def read(self, shape, prefix=""):
        """The value below a prefix, or None if the form has nothing there."""
        kind = shape.type_name
        if kind == "structure":
            value = self._structure(shape, prefix)
        elif kind == "list":
            value = self._list(shape, prefix)
        elif kind == "map":
            value = self._map(shape, prefix)
        elif prefix in self.form:
            self.used.add(prefix)
            value = from_text(shape, self.form[prefix], prefix, self.findings)
        else:
            return None
        if value is not None:
            limits.check(shape, value, prefix, self.findings)
        return value

    def leftovers(self, spare):
        for key in self.form:
            if key not in self.used and key not in spare:
                self.findings.note(key, "no member of the operation's input")

    def _has(self, prefix):
        return any(key == prefix or key.startswith(f"{prefix}.") for key in self.form)

    def _structure(self, shape, prefix):
        read = {}
        for name, member in shape.members.items():
            below = join(prefix, member.serialization.get("name", name))
            if self._has(below):
                read[name] = self.read(member, below)
        required(shape, read, prefix, self.findings)
        return read

    def _items(self, prefix):
        number = 1
        while self._has(f"{prefix}.{number}"):
            yield f"{prefix}.{number}"
            number += 1

    def _list(self, shape, prefix):
        if self.form.get(prefix) == "":
            self.used.add(prefix)
            return []
        name = shape.member.serialization.get("name")
        if shape.serialization.get("flattened"):
            prefix = join(prefix.rpartition(".")[0], name) if name else prefix
        else:
            prefix = f"{prefix}.{name or 'member'}"
        return [self.read(shape.member, item) for item in self._items(prefix)]

    def _map(self, shape, prefix):
        if not shape.serialization.get("flattened"):
            prefix = f"{prefix}.entry"
        key = shape.key.serialization.get("name", "key")
        value = shape.value.serialization.get("name", "value")
        return {
            self.read(shape.key, f"{item}.{key}"): self.read(shape.value, f"{item}.{value}")
            for item in self._items(prefix)
        }
