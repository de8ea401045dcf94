"""The life of a stage, told to chatctl verb by verb: everything that makes it call AWS."""

import json
import time

from websockets.sync.client import connect

from .project import find
from .vandal import Account, vandalise

SECONDS = 20
GITHUB = "https://token.actions.githubusercontent.com"
GUARDED = "auth: { mode: token, public_keys: { k1: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo } }"
CHANGED = (
    "auth: { mode: open }",
    "origins: ['https://chat.example', '*']",
    "table: { pitr: true }",
    "logs: { retention_days: 30 }",
    "throttling: { rate: 500, burst: 100 }",
)


def direct(project, cloud, proxy):
    """By calls of the services themselves; `cloud` is its address without the proxy."""
    account = Account(cloud, project.keys, project.region)
    prefix = f"chat-{project.stage}"
    project.chatctl("plan", "--detailed-exitcode", code=6)
    project.chatctl("deploy")
    with project.signed_by(role_for(account)):
        # The owner may do everything and asks nobody; a role asks IAM beforehand.
        project.chatctl("plan", "--detailed-exitcode")
        project.chatctl("deploy")
    project.chatctl("status")
    url = find(project.chatctl("outputs"), lambda text: text.startswith("ws://"))
    project.declare(*CHANGED)
    project.chatctl("deploy")
    chat(project, account, proxy, prefix, url)
    project.chatctl("logs")
    project.chatctl("logs", "--filter", "REPORT", "on_message")
    vandalise(account, prefix)
    project.chatctl("drift", "--detailed-exitcode", code=6)
    project.chatctl("deploy", "--adopt")
    project.chatctl("deploy")
    project.change("on_message")
    project.chatctl("deploy", "--only-code")
    project.chatctl("rollback")
    project.declare(GUARDED)
    project.chatctl("deploy", "--no-verify")
    project.declare(*CHANGED)
    project.chatctl("deploy")
    # Back to another deployment of the API as well.
    project.chatctl("rollback", "--no-verify")
    project.chatctl("history")
    project.chatctl("unlock", "nobody works here", code=None)
    project.chatctl("doctor", code=None)
    project.chatctl("ci", "setup", "--repo", "octo/chat")
    iam = account.client("iam")
    provider = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"][0]["Arn"]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider)
    iam.create_open_id_connect_provider(Url=GITHUB, ClientIDList=["somebody-else"])
    project.chatctl("ci", "setup", "--repo", "octo/chat")
    project.declare("auth: { mode: open }", "table: { deletion_protection: true }")
    project.chatctl("deploy")
    project.chatctl("destroy", "--drop-deletion-protection")


def cloudformation(project, *_):
    """By a stack, which a stage of the other kind is handed over to in between."""
    engine = ("--engine", "cloudformation")
    project.declare()
    project.chatctl("deploy", *engine)
    project.chatctl("plan", *engine, "--detailed-exitcode")
    project.declare(*CHANGED)
    project.chatctl("deploy", *engine)
    project.chatctl("status")
    project.chatctl("destroy", *engine)
    project.declare()
    project.chatctl("deploy")
    project.chatctl("eject", "--execute", "--out", str(project.folder))
    project.chatctl("destroy", *engine)


def role_for(account):
    """Keys of a role that may do everything here."""
    trust = {"Effect": "Allow", "Principal": {"AWS": "000000000000"}, "Action": "sts:AssumeRole"}
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam = account.client("iam")
    role = iam.create_role(RoleName="wire-deployer", AssumeRolePolicyDocument=policy(trust))["Role"]
    iam.put_role_policy(RoleName="wire-deployer", PolicyName="all", PolicyDocument=policy(everything))
    session = {"RoleArn": role["Arn"], "RoleSessionName": "wire"}
    keys = account.client("sts").assume_role(**session)["Credentials"]
    return keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]


def policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def chat(project, account, proxy, prefix, url):
    """Two people talk, and their functions call through the proxy as well: a function's own variables come last."""
    lambdas = account.client("lambda")
    for handler in ("connect", "disconnect", "on_message"):
        name = f"{prefix}-{handler}"
        variables = lambdas.get_function_configuration(FunctionName=name, Qualifier="live")["Environment"]["Variables"]
        behind = {key: value.replace(account.endpoint.rpartition("/")[2], proxy.endpoint.rpartition("/")[2])
                  for key, value in variables.items()}
        lambdas.update_function_configuration(
            FunctionName=name, Environment={"Variables": behind | {"AWS_ENDPOINT_URL": proxy.endpoint}}
        )
        lambdas.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        version = lambdas.publish_version(FunctionName=name)["Version"]
        lambdas.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
    with open_as(url, "alice") as alice, open_as(url, "bob") as bob:
        for socket in (alice, bob):
            ask(socket, action="hello", device="d")
            ask(socket, action="join", room="wire")
        for number in range(3):
            ask(alice, action="send", room="wire", body={"text": f"hi {number}"})
        ask(alice, action="send", to="bob", body={"text": "psst"})
        ask(bob, action="history", room="wire")
        ask(bob, action="who", room="wire")
        ask(bob, action="leave", room="wire")
    # Each end of a connection is noticed by a function that calls as well.
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and not _told(account, prefix):
        time.sleep(0.1)


def _told(account, prefix):
    group = f"/aws/lambda/{prefix}-disconnect"
    events = account.client("logs").filter_log_events(logGroupName=group, filterPattern="REPORT")["events"]
    return len(events) >= 2


def open_as(url, user):
    return connect(f"{url}?user={user}", subprotocols=["chat.v1"], origin="https://chat.example", open_timeout=SECONDS)


def ask(socket, **frame):
    socket.send(json.dumps({"id": "1", **frame}))
    while True:
        answer = json.loads(socket.recv(SECONDS))
        if answer.get("id") == "1":
            assert answer["type"] != "error", answer
            return answer
