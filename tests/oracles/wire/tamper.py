"""Spoils exchanges that fit, and wants each spoilt one to be objected to: a judge that cannot object is worth nothing."""

import json
import re
from dataclasses import replace

from .operations import operation_of

STRAY = "Bogus"


def everywhere(asked, answered):
    """The exchange with a stray member in the request, and in the answer, where they have bodies to put it in."""
    operation = operation_of(asked)
    protocol = operation.service_model.metadata["protocol"]
    for side, message, shape in (
        ("request", asked, operation.input_shape), ("answer", answered, operation.output_shape)
    ):
        body = _with_stray(protocol, side, message.body)
        payload = shape.serialization.get("payload") if shape else None
        # Bytes that nobody here reads may have any members.
        if body is not None and not (payload and shape.members[payload].type_name == "blob"):
            spoilt = replace(message, body=body)
            yield side, (spoilt, answered) if side == "request" else (asked, spoilt)


def _with_stray(protocol, side, body):
    if protocol == "query" and side == "request":
        return body + b"&Bogus=1"
    if body[:1] == b"{":
        return json.dumps({STRAY: 1, **json.loads(body)}).encode()
    if protocol == "query" and b"<Error" not in body:
        return re.sub(rb"(Result>|Result/>|<ResponseMetadata>)", _stray_element, body, count=1)
    return None


def _stray_element(found):
    if found[0] == b"Result/>":
        return b"Result><Bogus>1</Bogus></Result>"
    return found[0] + b"<Bogus>1</Bogus>" if found[0] != b"<ResponseMetadata>" else b"<Bogus>1</Bogus>" + found[0]


def _json(change):
    def spoil(message):
        body = json.loads(message.body)
        change(body)
        return replace(message, body=json.dumps(body).encode())

    return spoil


def _text(old, new):
    return lambda message: replace(message, body=message.body.replace(old, new, 1))


def _target(old, new):
    return lambda message: replace(message, target=message.target.replace(old, new, 1))


def _status(status):
    return lambda message: replace(message, status=status)


# Operation, side, how it is spoilt, and what the objection must tell.
SPOILT = (
    ("dynamodb:CreateTable", "request", _json(lambda body: body.pop("TableName")), "TableName: required"),
    ("dynamodb:CreateTable", "request", _json(lambda body: body.update(TableName="")), "TableName: '' is 0 long, less than 1"),
    ("dynamodb:CreateTable", "request", _json(lambda body: body.update(BillingMode="FREE")), "BillingMode: 'FREE' is not among"),
    ("dynamodb:CreateTable", "request", _json(lambda body: body["KeySchema"][0].update(KeyType=1)),
     r"KeySchema\[0\]\.KeyType: 1 is no string"),
    ("dynamodb:CreateTable", "answer", _json(lambda body: body["TableDescription"].update(CreationDateTime="now")),
     r"TableDescription\.CreationDateTime: 'now' is no timestamp"),
    ("dynamodb:CreateTable", "answer", _json(lambda body: body["TableDescription"].update(ItemCount="0")),
     r"TableDescription\.ItemCount: '0' is no long"),
    ("dynamodb:Query", "request", _json(lambda body: body["ExpressionAttributeValues"].update({":p": {"S": "x", "N": "1"}})),
     r"ExpressionAttributeValues\[:p\]: 2 members where one is wanted"),
    ("iam:CreateRole", "request", _text(b"RoleName=", b"Rolename="), "Rolename: no member|RoleName: required"),
    ("iam:CreateRole", "request", _text(b"Tags.member.1.Key", b"Tags.member.2.Key"), "Tags"),
    ("iam:CreateRole", "request", _text(b"Version=2010-05-08", b"Version=2010-05-09"), "Version: 2010-05-09"),
    ("iam:CreateRole", "answer", _text(b"<CreateDate>", b"<CreateDate>on "), "CreateDate: .* is no timestamp"),
    ("iam:CreateRole", "answer", _text(b"CreateRoleResult>", b"CreateRoleOutput>"), "Result|mismatched|Output"),
    ("lambda:CreateFunction", "request", _json(lambda body: body.update(MemorySize=64)), "MemorySize: 64 is 64 large, less than 128"),
    ("lambda:CreateFunction", "request", _json(lambda body: body.update(Role="admin")), "Role: 'admin' does not match"),
    ("lambda:CreateFunction", "answer", _status(200), "status 200, not 201"),
    ("lambda:CreateFunction", "answer", _json(lambda body: body.update(State="Ready")), "State: 'Ready' is not among"),
    ("lambda:ListVersionsByFunction", "request", _target("/versions", "/versions?Limit=5"), "Limit: no member"),
    ("logs:CreateLogGroup", "request", _json(lambda body: body.update(logGroupName="a b")), "logGroupName: 'a b' does not match"),
    ("apigatewayv2:CreateApi", "request", _json(lambda body: body.update(protocolType="TCP")), "protocolType: 'TCP' is not among"),
    ("apigatewayv2:CreateApi", "answer", _json(lambda body: body.update(createdDate=1)), "createdDate: 1 is no timestamp"),
    ("apigatewayv2:CreateApi", "answer", _status(200), "status 200, not 201"),
    ("cloudformation:CreateChangeSet", "request", _text(b"Capabilities.member.1=CAPABILITY_NAMED_IAM",
     b"Capabilities.member.1=ALL"), r"Capabilities\.member\.1: 'ALL' is not among"),
    ("cloudformation:DescribeStacks", "answer", _text(b"<StackStatus>", b"<StackStatus>NEARLY_"), "StackStatus: 'NEARLY_"),
    ("s3:PutObject", "request", _target("x-id=", "x-name="), "x-name: no member"),
)


def judged(exchanges, judge):
    """How many were spoilt, and those that were let pass. `exchanges` is one success for each operation, by name."""
    spoilt, passed = 0, []
    for name, (asked, answered) in exchanges.items():
        for side, exchange in everywhere(asked, answered):
            spoilt += 1
            if not any(side in what and (STRAY in what or "body where none" in what) for what in judge(*exchange)[1]):
                passed.append(f"{name} {side} with a stray member")
    for name, side, spoil, objection in SPOILT:
        if name not in exchanges:
            passed.append(f"{name} was never called, so it cannot be spoilt")
            continue
        asked, answered = exchanges[name]
        exchange = (spoil(asked), answered) if side == "request" else (asked, spoil(answered))
        spoilt += 1
        what = judge(*exchange)[1]
        if exchange == (asked, answered) or not any(re.search(f"{name} {side} .*({objection})", each) for each in what):
            passed.append(f"{name} {side}, where {objection!r} was expected and not said: {what}")
    return spoilt, passed
