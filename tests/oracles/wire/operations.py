"""Which operation of which service a request means, and the protocol that botocore speaks with it."""

import re
from functools import cache
from urllib.parse import parse_qsl, unquote

import botocore.session

# The service's models by the name in the scope of a signature, where that differs.
SIGNED_AS = {"apigateway": "apigatewayv2", "execute-api": "apigatewaymanagementapi"}
SCOPE = re.compile(r"Credential=[^/]+/\d{8}/[^/]+/([^/]+)/aws4_request")


class Unknown(Exception):
    """The request means no operation."""


@cache
def model(service):
    return _session().get_service_model(service)


@cache
def _session():
    return botocore.session.Session()


def split(target):
    """The path as it was sent, and the decoded query."""
    path, _, query = target.partition("?")
    return path, parse_qsl(query, keep_blank_values=True)


def form_of(request):
    text = request.body.decode() if request.method == "POST" else request.target.partition("?")[2]
    return dict(parse_qsl(text, keep_blank_values=True))


def service_of(request):
    found = SCOPE.search(request.header("authorization") or "")
    if not found:
        # Its token signs it: the one call that is made without keys.
        if form_of(request).get("Action") == "AssumeRoleWithWebIdentity":
            return "sts"
        raise Unknown("without a signature")
    return SIGNED_AS.get(found[1], found[1])


def operation_of(request):
    """The model of the operation; `wire.request` reads its input."""
    service = model(service_of(request))
    protocol = service.metadata["protocol"]
    if protocol == "json":
        prefix, _, name = (request.header("x-amz-target") or "").partition(".")
        if prefix != service.metadata["targetPrefix"]:
            raise Unknown(f"X-Amz-Target begins with {prefix!r}")
    elif protocol == "query":
        name = form_of(request).get("Action", "")
    else:
        name = rest_operation(service, request)
    if name not in service.operation_names:
        raise Unknown(f"{service.service_name} has no operation {name!r}")
    return service.operation_model(name)


def rest_operation(service, request):
    """The most particular of those that match: by its constant query, its literal path, and the parameters beside the
    path without which it cannot be meant. `CopyObject` is `PutObject` with a header more."""
    path, query = split(request.target)
    there = {key for key, _ in query} | {key.lower() for key, _ in request.headers}
    best = None
    for name, method, pattern, constants, literal, needed in _templates(service.service_name):
        matched = method == request.method and pattern.fullmatch(path) and constants <= set(query) and needed <= there
        weight = (len(constants), literal, len(needed))
        if matched and (best is None or weight > best[0]):
            best = (weight, name)
    if best is None:
        raise Unknown(f"{service.service_name} has nothing at {request.method} {path}")
    return best[1]


def labels(operation, path):
    """The decoded parameters in a path."""
    names = re.findall(r"\{([^}+]+)\+?\}", operation.http["requestUri"].partition("?")[0])
    return dict(zip(names, map(unquote, _pattern(operation)[0].fullmatch(path).groups())))


@cache
def _templates(service):
    operations = (model(service).operation_model(name) for name in model(service).operation_names)
    return [(each.name, each.http["method"], *_pattern(each), _needed(each)) for each in operations]


def _needed(operation):
    shape = operation.input_shape
    members = [shape.members[name] for name in shape.required_members] if shape else []
    places = [each.serialization for each in members if each.serialization.get("location") in ("header", "querystring")]
    return {place["name"].lower() if place["location"] == "header" else place["name"] for place in places}


def _pattern(operation):
    """A template as an expression, its constant query, and how much of it is literal."""
    template, _, constants = operation.http["requestUri"].partition("?")
    # A stage's address has a path of its own in front of `/@connections`.
    base = "(?:/[^/]+)*" if operation.service_model.service_name == "apigatewaymanagementapi" else ""
    parts = re.split(r"\{([^}]+)\}", template.rstrip("/"))
    text = "".join(
        re.escape(part) if at % 2 == 0 else "(.+)" if part.endswith("+") else "([^/]+)"
        for at, part in enumerate(parts)
    )
    literal = sum(len(part) for part in parts[::2])
    return re.compile(f"{base}{text}/?"), set(parse_qsl(constants, keep_blank_values=True)), literal
