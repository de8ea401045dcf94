"""Runs chatctl against emulators of AWS that others wrote: ministack and moto. What they lack or mistreat is worked
around in the proxy, by the list in `wire/workarounds.py`, which every run prints."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

from wire import life
from wire.operations import Unknown, operation_of
from wire.project import ROOT, Failed, Project, find
from wire.proxy import Proxy
from wire.workarounds import Desk

BIN = ROOT / "target/xtask/emulators/bin"
START_SECONDS = 30
STOP_SECONDS = 5
KEYS = ("test", "test")
# Of the chat's template, and of no other resources.
UNKNOWN_TYPES = {
    "AWS::ApiGatewayV2::Deployment", "AWS::ApiGatewayV2::IntegrationResponse", "AWS::ApiGatewayV2::RouteResponse",
    "AWS::IAM::RolePolicy",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def emulator(command, port, environment, folder=None):
    """In a process group of its own, which is ended with all that the emulator started."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        command, cwd=folder, env=clean | environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start") from None
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, signal_number)
                process.wait(STOP_SECONDS)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


def ministack():
    port = free_port()
    environment = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    return emulator([str(BIN / "ministack")], port, environment)


def moto():
    port = free_port()
    return emulator([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port, {})


def live(project, talks):
    """The life of a stage; whether functions run there decides whether somebody talks."""
    unseen = () if talks else ("--no-verify",)
    project.chatctl("deploy", *unseen)
    project.chatctl("plan", "--detailed-exitcode")
    project.declare(*life.CHANGED)
    project.chatctl("plan", "--detailed-exitcode", code=6)
    project.chatctl("deploy", *unseen)
    project.chatctl("plan", "--detailed-exitcode")
    if talks:
        url = find(project.chatctl("outputs"), lambda text: text.startswith("ws://"))
        life.converse(url)
        assert project.chatctl("logs", "--filter", "REPORT")["data"]["events"] > 0
    project.change("on_message")
    project.chatctl("deploy", "--only-code", *unseen)
    project.chatctl("rollback", *unseen)
    assert len(project.chatctl("history")["data"]["runs"]) >= 4
    project.chatctl("destroy")
    left = project.chatctl("plan", "--detailed-exitcode", code=6)["data"]["plan"]
    assert not left["unchanged"], left["unchanged"]


def run(name, start, talks):
    desk, failure = Desk(name), None
    with start() as upstream, Proxy(upstream, desk.intervene, desk.change_head) as proxy:
        desk.address = proxy.endpoint.removeprefix("http://")
        try:
            with Project("oracle", proxy.endpoint, KEYS) as project:
                if talks:
                    deployer(project, desk, f"http://{upstream}")
                live(project, talks)
                if talks:
                    refused_template(project)
        except (Failed, AssertionError, OSError) as error:
            failure = error
        exchanges = proxy.take()
    called = {operation for operation in map(named, exchanges) if operation}
    print(f"{name}: {len(exchanges)} exchanges of {len(called)} operations, WebSocket chat: {'yes' if talks else 'no'}")
    for workaround in desk.list:
        print(f"{name}: worked around {desk.used[workaround]} times: {', '.join(workaround.operations)}")
        print(f"    wrong: {workaround.wrong}\n    instead: {workaround.instead}")
        if not desk.used[workaround] and failure is None:
            failure = f"the workaround for {workaround.operations[0]} was not needed: take it off the list"
    if failure is not None:
        print(f"{name}: {failure}")
        for request, answer in exchanges:
            if answer.status >= 500 or answer.status in (400, 404) and not answer.header("x-amzn-requestid"):
                print(f"    {request.method} {request.target}: {answer.status} {answer.body[:200]!r}")
    return failure is None


def refused_template(project):
    """ministack knows most of the types that a stack of the chat has, and must refuse it for the others alone."""
    with project.signed_by(KEYS):
        refusal = project.chatctl("deploy", "--engine", "cloudformation", code=1)["error"]["message"]
        assert not project.chatctl("destroy")["data"]["deleted"], "the refused stack has left something"
    unknown = set(re.findall(r"AWS::\w+::\w+", refusal))
    assert unknown == UNKNOWN_TYPES, refusal
    print(f"ministack: refuses the stack, since it has no {', '.join(sorted(unknown))}, and nothing is left of it")


def deployer(project, desk, endpoint):
    """Lets chatctl sign as a role that may do what `chatctl policy` prints and nothing else."""
    document = desk.allowing(project.chatctl("policy", "--account", "000000000000")["data"]["policy"])
    key, secret, token = life.role_for(life.Account(endpoint, KEYS), document)
    with project.signed_by((key, f"not {secret}", token)):
        # A judge of signatures must be able to refuse one.
        refusal = json.dumps(project.chatctl("plan", code=1))
    assert "ignature" in refusal, refusal
    project.keys = (key, secret, token)


def named(exchange):
    try:
        operation = operation_of(exchange[0])
    except Unknown:
        return None
    return f"{operation.service_model.service_name}:{operation.name}"


def judge_ministack(_cloud):
    if not (BIN / "ministack").exists():
        print("ministack is skipped: it needs Python 3.12 or newer, and `cargo xtask setup` found none")
        return True
    return run("ministack", ministack, talks=True)


def judge_moto(_cloud):
    # moto runs functions in containers only, so nobody can talk there.
    return run("moto", moto, talks=False)
