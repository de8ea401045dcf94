"""Lets clients and parsers that nobody here wrote judge the project: boto3, the AWS CLI, the websockets package, the
linters of CloudFormation templates, the AsyncAPI parser, actionlint, parliament, botocore's service models.

    python tests/oracles/run.py [NAME…]

Needs the packages of tests/requirements.txt and tests/package.json and a built chatctl, all of which `cargo xtask test
--only oracles` sees to. Exits with 1 if one of them objects.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import botocore_wire
from wire.project import find
from wire.proxy import Proxy

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHATCTL = os.environ.get("CHATCTL", str(ROOT / "target/debug/chatctl"))
START_SECONDS = 60
SETTINGS = """\
app: chat
stages:
  local:
    endpoint: local
    auth: { mode: open }
    lambda: { architecture: native }
    control_plane: { rate: 0 }
    build: { profile: dev }
"""


class Cloud:
    """A cloud of its own with the chat deployed to it."""

    def __enter__(self):
        self.open = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="chatctl-oracles-"))
        (self.folder / "chat.yaml").write_text(SETTINGS)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self.environment = environment | {
            "CHATCTL_SETTINGS": str(self.folder / "chat.yaml"),
            "CHATCTL_STATE_DIR": str(self.folder / "state"),
        }
        self.process = subprocess.Popen(
            [CHATCTL, "local", "up", "--port", "0", "--json"],
            cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        try:
            self.endpoint = f"http://127.0.0.1:{self.wait_for('ready')['port']}"
            # What the cloud says to those who come this way is judged at the end.
            self.recorded = self.open.enter_context(Proxy(self.endpoint.removeprefix("http://")))
            deployed = self.chatctl("deploy", "--yes")
            self.url = find(deployed, lambda text: text.startswith("ws://"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_for(self, event):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"`chatctl local up` ended with {self.process.wait()}")
            said = json.loads(line)
            if said.get("event") == event:
                return said
        raise RuntimeError(f"`chatctl local up` did not say {event}")

    def chatctl(self, *args):
        done = subprocess.run(
            [CHATCTL, *args, "--json"], cwd=ROOT, env=self.environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"chatctl {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])["data"]

    def __exit__(self, *_):
        self.open.close()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def script(name):
    """A script of this folder that is told where the cloud and the chat are."""

    def run(cloud):
        command = [sys.executable, str(HERE / name), cloud.recorded.endpoint, cloud.url]
        return subprocess.run(command, cwd=ROOT, env=cloud.environment).returncode == 0

    return run


def node(name):
    return lambda _cloud: subprocess.run(["node", str(HERE / name)], cwd=ROOT).returncode == 0


# Stages that differ in everything that changes the shape of a template.
TEMPLATES = """\
app: chat
stages:
  open:
    endpoint: local
    auth: { mode: open }
    lambda: { architecture: native }
    build: { profile: dev }
  guarded:
    endpoint: local
    protect: true
    auth: { mode: token, public_keys: { k1: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo } }
    origins: ["https://chat.example"]
    table: { pitr: true, deletion_protection: true }
    lambda: { architecture: native }
    build: { profile: dev }
"""


def templates(cloud):
    """The templates of both stages, as files."""
    settings = cloud.folder / "templates.yaml"
    settings.write_text(TEMPLATES)
    files = []
    for stage in ("open", "guarded"):
        files.append(str(cloud.folder / f"{stage}.yaml"))
        cloud.chatctl("synth", "--settings", str(settings), "--stage", stage, "--out", files[-1])
    return files


def cfn_lint(cloud):
    """Warnings and remarks count as objections too."""
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--include-checks", "I", "--"]
    return subprocess.run(command + templates(cloud), cwd=ROOT).returncode == 0


def checkov(cloud):
    """What is meant to be as it is says why in the template itself, beside the resource."""
    files = [part for file in templates(cloud) for part in ("--file", file)]
    command = [str(ROOT / "target/xtask/checkov/bin/checkov"), "--framework", "cloudformation", "--skip-download"]
    done = subprocess.run(
        command + ["--output", "json", "--compact"] + files, cwd=cloud.folder, capture_output=True, text=True
    )
    if not done.stdout.strip():
        print(done.stderr)
        return False
    report = json.loads(done.stdout)
    failed = report["results"]["failed_checks"]
    for check in failed:
        print(f"{check['check_id']} {check['resource']}: {check['check_name']}")
    for check in report["results"]["skipped_checks"]:
        reason = check["check_result"].get("suppress_comment")
        if not reason:
            print(f"{check['check_id']} {check['resource']} is skipped without a reason")
            return False
    summary = report["summary"]
    print(f"checkov: {summary['passed']} passed, {len(failed)} failed, {summary['skipped']} skipped with a reason")
    return not failed and summary["passed"] > 0 and summary["parsing_errors"] == 0 and done.returncode == 0


ORACLES = {
    "asyncapi": node("asyncapi.mjs"),
    "actionlint": node("workflows.mjs"),
    "parliament": script("parliament_policy.py"),
    "boto3": script("boto3_local.py"),
    "boto3-chat": script("boto3_chat.py"),
    "awscli": script("awscli_local.py"),
    "boto3-stacks": script("boto3_stacks.py"),
    "cfn-lint": cfn_lint,
    "checkov": checkov,
    "websockets": script("websockets_chat.py"),
    # After all who were recorded.
    "botocore": lambda cloud: botocore_wire.main(cloud.endpoint, cloud.recorded.take()),
}


def main():
    wanted = sys.argv[1:] or list(ORACLES)
    unknown = [name for name in wanted if name not in ORACLES]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(ORACLES)}")
    failed = []
    with Cloud() as cloud:
        for name in wanted:
            print(f"── {name}", flush=True)
            if not ORACLES[name](cloud):
                failed.append(name)
    print(f"oracles: {len(wanted) - len(failed)} agree, {len(failed)} object {' '.join(failed)}".rstrip())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
