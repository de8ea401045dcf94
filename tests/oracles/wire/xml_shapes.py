"""XML as the shapes of a model: every element known, every text what its type wants."""

from . import limits
from .findings import join
from .json_shapes import required
from .scalars import from_text


def local(tag):
    return tag.rpartition("}")[2]


class XmlReader:
    def __init__(self, findings, spare=()):
        self.findings = findings
        # Elements that stand beside the members at the top.
        self.spare = set(spare)

    def read(self, shape, node, path=""):
        kind = shape.type_name
        if kind == "structure":
            value = self.members(shape, node, path, shape.members)
        elif kind == "list":
            value = [self.read(shape.member, item, path) for item in node]
        elif kind == "map":
            value = self._map(shape, node, path)
        else:
            if len(node):
                self.findings.note(path, f"elements where a {kind} is wanted")
            value = from_text(shape, node.text or "", path, self.findings)
        if value is not None:
            limits.check(shape, value, path, self.findings, answered=True)
        return value

    def members(self, shape, node, path, members):
        """The members among an element's children. A flattened list has no element around its items."""
        names = {}
        for name, member in members.items():
            flat = member.serialization.get("flattened")
            inner = member.member.serialization.get("name") if flat and member.type_name == "list" else None
            names[inner or member.serialization.get("name", name)] = name
        read = {}
        for child in node:
            tag = local(child.tag)
            name = names.get(tag)
            below = join(path, tag)
            if name is None:
                if path or tag not in self.spare:
                    self.findings.note(below, f"{shape.name} has no such member")
            elif members[name].serialization.get("flattened"):
                read.setdefault(name, []).append(self.read(members[name].member, child, below))
            elif name in read:
                self.findings.note(below, "twice")
            elif members[name].type_name == "list":
                read[name] = self._list(members[name], child, below)
            else:
                read[name] = self.read(members[name], child, below)
        required(shape, read, path, self.findings)
        return read

    def _list(self, shape, node, path):
        wanted = shape.member.serialization.get("name", "member")
        for child in node:
            if local(child.tag) != wanted:
                self.findings.note(path, f"<{local(child.tag)}> where <{wanted}> is wanted")
        items = [self.read(shape.member, child, f"{path}[{at}]") for at, child in enumerate(node)]
        limits.check(shape, items, path, self.findings, answered=True)
        return items

    def _map(self, shape, node, path):
        key, value = (part.serialization.get("name", name) for part, name in ((shape.key, "key"), (shape.value, "value")))
        read = {}
        for entry in node:
            parts = {local(child.tag): child for child in entry}
            if set(parts) != {key, value}:
                self.findings.note(path, f"an entry with {', '.join(parts)}")
                continue
            read[parts[key].text or ""] = self.read(shape.value, parts[value], f"{path}[{parts[key].text}]")
        return read
