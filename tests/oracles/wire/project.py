"""A stage of its own in a folder of its own, and chatctl run against it."""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CHATCTL = os.environ.get("CHATCTL", str(ROOT / "target/debug/chatctl"))
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
HANDLERS = ("connect", "disconnect", "on_message")


class Failed(Exception):
    """chatctl ended otherwise than it should."""


class Project:
    def __init__(self, stage, endpoint, keys=("chatctl", "chatctl"), region="us-east-1"):
        self.stage, self.endpoint, self.keys, self.region = stage, endpoint, keys, region

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="chatctl-wire-"))
        self.settings = self.folder / "chat.yaml"
        self.handlers = self.folder / "handlers"
        self.handlers.mkdir()
        for handler in HANDLERS:
            shutil.copy2(Path(CHATCTL).parent / handler, self.handlers / handler)
        self.declare()
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def declare(self, *settings):
        """Writes the stage's settings; later ones are added to what every such stage has."""
        lines = [
            f"endpoint: {self.endpoint}",
            f"region: {self.region}",
            "lambda: { architecture: native }",
            "control_plane: { rate: 0 }",
            "build: { profile: dev }",
            *(settings or ["auth: { mode: open }"]),
        ]
        text = "".join(f"    {line}\n" for line in lines)
        self.settings.write_text(f"app: chat\nstages:\n  {self.stage}:\n{text}")

    @contextmanager
    def signed_by(self, keys):
        """Runs chatctl with other keys for a while."""
        usual, self.keys = self.keys, keys
        try:
            yield
        finally:
            self.keys = usual

    def change(self, handler):
        """Makes other code of a handler: what comes after an executable's sections is not loaded."""
        with open(self.handlers / handler, "ab") as file:
            file.write(b"changed")

    def chatctl(self, *args, code=0):
        """The last line that it printed, which is its result."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {
            "CHATCTL_SETTINGS": str(self.settings),
            "CHATCTL_STATE_DIR": str(self.folder / "state"),
            "AWS_EC2_METADATA_DISABLED": "true",
            **dict(zip(KEYS, self.keys)),
        }
        command = [CHATCTL, *args, "--stage", self.stage, "--yes", "--json", "--handlers", str(self.handlers)]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if code is not None and done.returncode != code:
            raise Failed(f"chatctl {' '.join(args)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr}")
        lines = done.stdout.strip().splitlines()
        return json.loads(lines[-1]) if lines else {}


def find(value, wanted):
    """The first text anywhere in a JSON value that is wanted."""
    if isinstance(value, str):
        return value if wanted(value) else None
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return next((found for found in (find(child, wanted) for child in children) if found), None)
