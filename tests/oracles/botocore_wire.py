"""Holds every request that chatctl and the functions send during a stage's life, and every answer of the local cloud to
anybody, against botocore's models."""

import re
from collections import Counter

from botocore.parsers import ResponseParserError

from wire import answer, explained, life, request, tamper
from wire.findings import Findings
from wire.operations import Unknown, operation_of
from wire.project import ROOT, Project
from wire.proxy import Proxy

SDKS = {"cloudwatchlogs": "logs"}


def judge(asked, answered, also_request=True):
    """The operation that one exchange is about, and what does not fit."""
    try:
        operation = operation_of(asked)
    except Unknown as why:
        return "unknown", [f"{asked.method} {asked.target}: {why}"] if also_request else []
    name = f"{operation.service_model.service_name}:{operation.name}"
    sent, got = Findings(f"{name} request"), Findings(f"{name} answer")
    if also_request:
        read(request.judge, operation, asked, sent)
    read(answer.judge, operation, answered, got)
    return name, sent.found + got.found


def read(judge_one, operation, message, findings):
    try:
        judge_one(operation, message, findings)
    except (ValueError, SyntaxError, ResponseParserError) as error:
        findings.note("", f"unreadable: {error}")


def sendable():
    """The operations that chatctl can send: each has its type in one of the lists of its permissions."""
    found = set()
    for file in (ROOT / "stacks/src").rglob("*.rs"):
        for sdk, block in re.findall(r"aws_sdk_(\w+) \{(.*?)\n    \}", file.read_text(), re.S):
            found |= {f"{SDKS.get(sdk, sdk)}:{name}" for name in re.findall(r"\b([A-Z]\w+)Error\b", block)}
    return found


def main(endpoint, others):
    """`others` are exchanges of clients that send what botocore, or nobody, would: their answers are judged alone."""
    exchanges = []
    for tell in (life.direct, life.cloudformation):
        with Proxy(endpoint.removeprefix("http://")) as proxy, Project("wire", proxy.endpoint) as project:
            tell(project, endpoint, proxy)
            exchanges += proxy.take()
    found, met, answered_to, fine = Counter(), Counter(), Counter(), {}
    for asked, answered in exchanges:
        name, what = judge(asked, answered)
        met[name] += 1
        found.update(what)
        if answered.status < 300 and not explained.sort_out(Counter(what))[0]:
            fine.setdefault(name, (asked, answered))
    for asked, answered in others:
        name, what = judge(asked, answered, also_request=False)
        answered_to[name] += 1
        found.update(what)
    spoilt, passed = tamper.judged(fine, judge)
    found, used = explained.sort_out(found)
    for explanation, times in used.items():
        print(f"let pass {times} times: {explanation.pattern}\n    {explanation.reason}")
    for what, times in sorted(found.items()):
        print(f"objection, {times} times: {what}")
    for what in passed:
        print(f"not objected to: {what}")
    print(f"botocore: {spoilt} exchanges spoilt on purpose, {spoilt - len(passed)} objected to")
    print(f"botocore: {len(exchanges)} exchanges of {len(met)} operations of chatctl and its functions,", end=" ")
    print(f"{len(others)} answers of {len(answered_to)} operations to other clients, {sum(found.values())} objections")
    unmet = sorted(sendable() - set(met))
    print(f"botocore: operations that chatctl has and did not call: {', '.join(unmet) or 'none'}")
    return not found and not passed
