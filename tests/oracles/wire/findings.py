"""What does not fit a model, and where."""


class Findings:
    """Notes of one exchange. A path such as `Configuration.Tags[0].Key` tells the member."""

    def __init__(self, where):
        self.where = where
        self.found = []

    def note(self, path, what):
        self.found.append(f"{self.where} {path or '(whole)'}: {what}")


def join(path, name):
    return f"{path}.{name}" if path else name


def shown(value):
    """A value for a message: long ones are cut."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
