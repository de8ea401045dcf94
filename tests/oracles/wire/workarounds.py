"""What other emulators of AWS lack or mistreat, and what the proxy does instead so that the rest can judge."""

import json
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Callable
from urllib.parse import unquote

from .operations import Unknown, operation_of
from .proxy import Answer
from .upgrade import with_protocol

# In the place of an operation: a WebSocket that is opened.
UPGRADE = "upgrade"


@dataclass(frozen=True)
class Workaround:
    oracle: str
    operations: tuple
    wrong: str
    instead: str
    # Takes the desk below, the request, and how to ask the emulator.
    apply: Callable = None
    # Actions that whoever deploys is allowed there beside what `chatctl policy` prints.
    allow: tuple = ()
    on: str = "*"


def changed(answer, body):
    headers = [(key, value) for key, value in answer.headers if key.lower() != "content-length"]
    return replace(answer, headers=headers, body=json.dumps(body).encode())


def made(status, body=None):
    text = b"" if body is None else json.dumps(body).encode()
    return Answer(status, [("Content-Type", "application/json"), ("x-amzn-RequestId", str(uuid.uuid4()))], text)


def each(answer, change):
    """Changes the one thing, or each of the list, that an answer is about."""
    if answer.status >= 300:
        return answer
    body = json.loads(answer.body)
    for item in body.get("items", [body]):
        change(item)
    return changed(answer, body)


def endpoint_by_path(desk, request, forward):
    def change(api):
        api["apiEndpoint"] = f"ws://{desk.address}/_aws/execute-api/{api['apiId']}"

    return each(forward(request), change)


def timeout_of_websockets(desk, request, forward):
    def change(integration):
        if integration.get("timeoutInMillis") == 30000:
            integration["timeoutInMillis"] = 29000

    return each(forward(request), change)


def kept(identifier, defaults):
    """A collection that the proxy keeps itself: create, list, get, update, delete."""

    def apply(desk, request, _forward):
        path = unquote(request.target.partition("?")[0]).rstrip("/")
        given = json.loads(request.body or b"{}")
        if request.method == "POST":
            item = {**defaults, identifier: uuid.uuid4().hex[:6], **given}
            desk.collections[path][item[identifier]] = item
            return made(201, item)
        if path in desk.collections or path.rpartition("/")[2] in ("deployments", "stages"):
            return made(200, {"items": list(desk.collections[path].values())})
        folder, _, name = path.rpartition("/")
        if name not in desk.collections[folder]:
            return made(404, {"message": f"Unable to find {name}"})
        if request.method == "DELETE":
            del desk.collections[folder][name]
            return made(204)
        desk.collections[folder][name].update(given)
        return made(200, desk.collections[folder][name])

    return apply


def remembered(identifier):
    """A collection that the emulator keeps, but does not list: the proxy lists what was made and is still there."""

    def apply(desk, request, forward):
        path = unquote(request.target.partition("?")[0]).rstrip("/")
        if request.method == "GET":
            return made(200, {"items": list(desk.collections[path].values())})
        answer = forward(request)
        if answer.status < 300:
            folder, _, name = path.rpartition("/")
            if request.method == "DELETE":
                desk.collections[folder].pop(name, None)
            else:
                item = json.loads(answer.body)
                desk.collections[path if request.method == "POST" else folder][item[identifier]] = item
        return answer

    return apply


WORKAROUNDS = (
    Workaround(
        "ministack", ("CreateApi", "GetApi", "GetApis", "UpdateApi"),
        "apiEndpoint begins with http:// and is a name below `localhost`, which not every resolver knows",
        "the proxy's address by path, ws://127.0.0.1:PORT/_aws/execute-api/API", endpoint_by_path,
    ),
    Workaround(
        "ministack", (UPGRADE,),
        "drops the subprotocol that `$connect` answers, so clients that offer one give up",
        "echoes the first one that was offered", with_protocol,
    ),
    Workaround(
        "ministack", ("GetIntegrations",),
        "an integration without a timeout has 30000 ms, which is the default of HTTP APIs; WebSocket APIs have 29000",
        "29000 where it says 30000", timeout_of_websockets,
    ),
    Workaround(
        "ministack", ("GetAlias",),
        "asks IAM for lambda:ListAliases, where Lambda asks for lambda:GetAlias",
        "the role that deploys may do that too", allow=("lambda:ListAliases",),
    ),
    Workaround(
        "ministack", ("CreateRole", "DeleteRole", "DeleteRolePolicy", "PutRolePolicy", "TagRole"),
        "asks IAM about the role without its path",
        "the role that deploys may do these to roles of the stage's names without a path too",
        allow=("iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy", "iam:TagRole"),
        on="arn:aws:iam::000000000000:role/chat-oracle-*",
    ),
    Workaround(
        "ministack", ("CreateFunction",),
        "asks IAM about no function in particular, since the name is not in the path",
        "the role that deploys may make any function", allow=("lambda:CreateFunction",),
    ),
    Workaround(
        "ministack", ("ListTagsOfResource",),
        "asks IAM about no table in particular, since the request has its ARN and not its name",
        "the role that deploys may read the tags of any table", allow=("dynamodb:ListTagsOfResource",),
    ),
    Workaround(
        "moto", ("GetIntegrations",), "the same 30000 ms", "29000 where it says 30000", timeout_of_websockets,
    ),
    Workaround(
        "moto", ("CreateDeployment", "GetDeployment", "GetDeployments", "DeleteDeployment"),
        "no deployments of API Gateway v2: 404",
        "keeps them itself", kept("deploymentId", {"deploymentStatus": "DEPLOYED", "autoDeployed": False}),
    ),
    Workaround(
        "moto", ("CreateStage", "GetStages", "UpdateStage", "DeleteStage"),
        "a stage has no deploymentId, and there is no UpdateStage",
        "keeps stages itself", kept("stageName", {"autoDeploy": False}),
    ),
    Workaround(
        "moto", ("CreateAuthorizer", "GetAuthorizers", "UpdateAuthorizer", "DeleteAuthorizer"),
        "no GetAuthorizers: 500", "lists what was made", remembered("authorizerId"),
    ),
    Workaround(
        "moto", ("CreateRouteResponse", "GetRouteResponses", "DeleteRouteResponse"),
        "no GetRouteResponses: 500", "lists what was made", remembered("routeResponseId"),
    ),
)


class Desk:
    """Works around what one emulator lacks, and counts how often."""

    def __init__(self, oracle):
        self.address = ""
        self.list = [each for each in WORKAROUNDS if each.oracle == oracle]
        self.collections = defaultdict(dict)
        self.used = Counter()

    def intervene(self, request, forward):
        try:
            operation = operation_of(request).name
        except Unknown:
            return forward(request)
        for workaround in self.list:
            if operation in workaround.operations:
                self.used[workaround] += 1
                return workaround.apply(self, request, forward) if workaround.apply else forward(request)
        return forward(request)

    def allowing(self, policy):
        """A policy with what the emulator asks for and AWS does not."""
        more = [{"Effect": "Allow", "Action": each.allow, "Resource": each.on} for each in self.list if each.allow]
        return {**policy, "Statement": policy["Statement"] + more}

    def change_head(self, request, head):
        for workaround in self.list:
            if UPGRADE in workaround.operations:
                self.used[workaround] += 1
                return workaround.apply(request, head)
        return head
