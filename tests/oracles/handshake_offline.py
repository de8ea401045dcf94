"""Opens WebSockets to the local cloud and to serverless-offline in the same ways, with the same functions behind both,
and compares what a client sees."""

import io
import json
import os
import shutil
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from emulators import emulator, free_port
from wire.project import ROOT
from wire.vandal import Account

HERE = Path(__file__).resolve().parent / "handshake"
MODULES = ROOT / "target/xtask/offline/node_modules"
SECONDS = 20
# Longer than a function needs to start and answer, on a busy machine too.
SILENCE_SECONDS = 3
ROUTES = ("$connect", "echo", "silent", "throws", "whoami")
CHAT = ("chat.v1", "other")

# Name, query, protocols that are offered, and messages to send once it is open.
CASES = (
    ("a protocol is offered and echoed", "user=a", CHAT, ()),
    ("a protocol is offered and not echoed", "user=a&connect=mute", CHAT, ()),
    ("no protocol is offered", "user=a", (), ()),
    ("the authorizer denies", "user=denied", (), ()),
    ("the authorizer says Unauthorized", "user=unauthorized", (), ()),
    ("the authorizer fails", "user=broken", (), ()),
    ("the identity source is missing", "", (), ()),
    ("$connect answers 401", "user=a&connect=401", (), ()),
    ("$connect answers 403", "user=a&connect=403", (), ()),
    ("$connect answers 409", "user=a&connect=409", (), ()),
    ("$connect answers 500", "user=a&connect=500", (), ()),
    ("$connect fails", "user=a&connect=throws", (), ()),
    ("a route with a response", "user=a", (), ({"action": "echo", "n": 1},)),
    ("a route without a response", "user=a", (), ({"action": "silent"},)),
    ("a function that fails", "user=a", (), ({"action": "throws"},)),
    ("a route that is not there", "user=a", (), ({"action": "nothing"},)),
    ("a message without an action", "user=a", (), ({"n": 1},)),
    ("a message that is no JSON", "user=a", (), ("hello",)),
    ("what the authorizer said", "user=a", (), ({"action": "whoami"},)),
)


def seen(url, case):
    """What a client sees, in words that are the same for the same."""
    _, query, protocols, messages = case
    try:
        with connect(f"{url}?{query}", subprotocols=protocols or None, open_timeout=SECONDS) as socket:
            opened = f"open, protocol {socket.subprotocol}" if protocols else "open"
            return "; ".join([opened, *(said(socket, message) for message in messages)])
    except InvalidStatus as refusal:
        return f"refused with {refusal.response.status_code}"
    except InvalidHandshake as refusal:
        return f"refused: {type(refusal).__name__}"


def said(socket, message):
    """The answer to a message; ids differ from run to run. Messages of one connection run at the same time, so no other
    answer tells that there will be none."""
    try:
        socket.send(message if isinstance(message, str) else json.dumps(message))
        answer = json.loads(socket.recv(SILENCE_SECONDS))
    except TimeoutError:
        return "nothing"
    except ConnectionClosed as closed:
        return f"closed with {closed.rcvd and closed.rcvd.code}"
    answer |= {name: "…" for name in ("connectionId", "requestId") if name in answer}
    return json.dumps(answer, sort_keys=True, ensure_ascii=False)


def offline(stack):
    """serverless-offline with a copy of the project, beside its packages."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chatctl-handshake-")))
    for name in ("app.js", "serverless.yml"):
        shutil.copy(HERE / name, folder / name)
    (folder / "node_modules").symlink_to(MODULES)
    http, lambdas, port = free_port(), free_port(), free_port()
    environment = {
        "HTTP_PORT": str(http), "LAMBDA_PORT": str(lambdas), "WEBSOCKET_PORT": str(port),
        "AWS_ACCESS_KEY_ID": "offline", "AWS_SECRET_ACCESS_KEY": "offline",
        "SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off", "SLS_INTERACTIVE_SETUP_ENABLE": "0",
    }
    command = ["node", str(MODULES / "serverless/bin/serverless.js"), "offline"]
    return "ws://" + stack.enter_context(emulator(command, port, environment, folder))


def code():
    """A zip with the runtime and the functions; the executable names this machine's Node.js."""
    node = shutil.which("node")
    start = f'#!/bin/sh\nexec {node} "$LAMBDA_TASK_ROOT/bootstrap.mjs"\n'
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo("bootstrap")
        info.external_attr = 0o755 << 16
        archive.writestr(info, start)
        for name in ("app.js", "bootstrap.mjs"):
            archive.write(HERE / name, name)
    return packed.getvalue()


def local(endpoint):
    """The same on the local cloud, made with boto3."""
    account = Account(endpoint)
    lambdas, gateway, iam = (account.client(service) for service in ("lambda", "apigatewayv2", "iam"))
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName="handshake", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    api = gateway.create_api(
        Name="handshake", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    packed, uris = code(), {}
    for name in ("authorize", "connect", "message"):
        arn = lambdas.create_function(
            FunctionName=f"handshake-{name}", Role=role, Runtime="provided.al2023", Handler=name,
            Timeout=10, Architectures=[os.uname().machine.replace("aarch64", "arm64")], Code={"ZipFile": packed},
        )["FunctionArn"]
        lambdas.add_permission(
            FunctionName=arn, StatementId="gateway", Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com")
        uris[name] = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
    in_api = {"ApiId": api["ApiId"]}
    authorizer = gateway.create_authorizer(
        **in_api, Name="authorize", AuthorizerType="REQUEST", AuthorizerUri=uris["authorize"],
        IdentitySource=["route.request.querystring.user"])["AuthorizerId"]
    proxied = in_api | {"IntegrationType": "AWS_PROXY"}
    targets = {
        name: gateway.create_integration(**proxied, IntegrationUri=uris[name])["IntegrationId"]
        for name in ("connect", "message")
    }
    for key in ROUTES:
        to = f"integrations/{targets['connect' if key == '$connect' else 'message']}"
        guard = {"AuthorizationType": "CUSTOM", "AuthorizerId": authorizer} if key == "$connect" else {}
        answers = {} if key in ("$connect", "silent") else {"RouteResponseSelectionExpression": "$default"}
        route = gateway.create_route(**in_api, RouteKey=key, Target=to, **guard, **answers)["RouteId"]
        if answers:
            gateway.create_route_response(**in_api, RouteId=route, RouteResponseKey="$default")
    deployment = gateway.create_deployment(**in_api)["DeploymentId"]
    gateway.create_stage(**in_api, StageName="local", DeploymentId=deployment)
    return f"{api['ApiEndpoint']}/local"


# Cases in which serverless-offline is known to be otherwise, and why that is not what AWS does.
SILENT = ("open; nothing", "says nothing; API Gateway tells the client so when no route fits and there is no $default")
DIFFERENT = {
    "a protocol is offered and not echoed": (
        "open, protocol chat.v1",
        "echoes what is offered whatever $connect answers; on API Gateway that answer decides",
    ),
    "the authorizer says Unauthorized": (
        "refused with 500",
        "takes it for a failure; to API Gateway this very message of an authorizer means 401",
    ),
    "the identity source is missing": (
        "refused with 403",
        "refuses like a denial; API Gateway answers 401 and does not ask the authorizer",
    ),
    "a route that is not there": SILENT,
    "a message without an action": SILENT,
    "a message that is no JSON": SILENT,
}


def judge(cloud):
    if not MODULES.exists():
        print("serverless-offline is skipped: `cargo xtask setup` has not installed it")
        return True
    agreed, objections = 0, []
    with ExitStack() as stack:
        theirs, ours = offline(stack), local(cloud.endpoint)
        pool = stack.enter_context(ThreadPoolExecutor())
        pairs = [[pool.submit(seen, url, case) for url in (ours, theirs)] for case in CASES]
        for (name, *_), pair in zip(CASES, pairs):
            here, there = (each.result() for each in pair)
            known = DIFFERENT.get(name)
            print(f"{name}: {here}" if here == there else f"{name}: {here}; serverless-offline: {there}")
            if here == there and known:
                objections.append(f"{name}, which is said to differ")
            elif here == there:
                agreed += 1
            elif known is None or known[0] != there:
                objections.append(name)
            else:
                print(f"    {known[1]}")
    reasoned = len(CASES) - agreed - len(objections)
    print(f"handshake: {len(CASES)} cases, {agreed} agree, {reasoned} differ with a reason")
    for name in objections:
        print(f"handshake: objection: {name}")
    return not objections
