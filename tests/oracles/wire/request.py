"""Reads a request back into the members of its operation's input, strictly, and compares it with the one that botocore
would send for the same input."""

import base64
import json
import xml.etree.ElementTree as ET
import zlib
from urllib.parse import unquote

from botocore import serialize
from botocore.validate import ParamValidator

from . import limits
from .findings import shown
from .json_shapes import JsonReader, required
from .operations import form_of, labels, split
from .query_shapes import QueryReader
from .scalars import from_text
from .xml_shapes import XmlReader

# What SDKs add to any request for the transport; no operation has members of these names.
TRANSPORT = {
    "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-target", "x-amz-user-agent", "x-amzn-trace-id",
}
# The SDK for Rust tells S3 the operation's name in the query.
S3_SPARE = {"x-id"}


def judge(operation, request, findings):
    """The input of the operation."""
    given = read(operation, request, findings)
    report = ParamValidator().validate(given, operation.input_shape) if operation.input_shape else None
    if report is not None and report.has_errors():
        findings.note("", f"botocore refuses it: {report.generate_report()}")
    else:
        compare(operation, request, given, findings)
    return given


def read(operation, request, findings):
    service = operation.service_model
    protocol = service.metadata["protocol"]
    if protocol == "json":
        version = service.metadata["jsonVersion"]
        content_type(request, f"application/x-amz-json-{version}", findings)
        return JsonReader(findings).read(operation.input_shape, json.loads(request.body or b"{}"))
    if protocol == "query":
        form = form_of(request)
        if form.get("Version") != service.metadata["apiVersion"]:
            findings.note("Version", f"{form.get('Version')}, not {service.metadata['apiVersion']}")
        reader = QueryReader(findings, form)
        given = reader.read(operation.input_shape) if operation.input_shape else {}
        reader.leftovers({"Action", "Version"})
        return given
    return _rest(operation, request, findings)


def content_type(message, wanted, findings):
    found = (message.header("content-type") or "").partition(";")[0]
    if found != wanted:
        findings.note("Content-Type", f"{found or 'none'}, not {wanted}")


def _rest(operation, request, findings):
    shape = operation.input_shape
    if shape is None:
        return {}
    service = operation.service_model.service_name
    path, query = split(request.target)
    uri = labels(operation, path)
    constants = {key for key, _ in split(operation.http["requestUri"])[1]}
    given, unread = {}, {key for key, _ in query} - constants - (S3_SPARE if service == "s3" else set())
    amz = {key.lower() for key, _ in request.headers if key.lower().startswith("x-amz")} - TRANSPORT
    for name, member in shape.members.items():
        place, key = member.serialization.get("location"), member.serialization.get("name", name)
        if place == "uri":
            text = uri.get(key)
        elif place == "querystring":
            unread.discard(key)
            if member.type_name == "list":
                items = [from_text(member.member, text, name, findings) for at, text in query if at == key]
                given.update({name: items} if items else {})
                continue
            text = next((text for at, text in query if at == key), None)
        elif place == "header":
            amz.discard(key.lower())
            text = request.header(key.lower())
        else:
            continue
        if text is not None:
            times = "rfc822" if place == "header" else "iso8601"
            given[name] = from_text(member, text, name, findings, times)
            limits.check(member, given[name], name, findings)
    if operation.http_checksum:
        amz.discard("x-amz-checksum-crc32")
        checksum = request.header("x-amz-checksum-crc32")
        if checksum and checksum != base64.b64encode(zlib.crc32(request.body).to_bytes(4, "big")).decode():
            findings.note("x-amz-checksum-crc32", f"{checksum} is not that of the body")
    for name in sorted(unread | amz):
        findings.note(name, "no member of the operation's input")
    given |= _body(operation, request, findings)
    required(shape, given, "", findings)
    return given


def _body(operation, request, findings):
    shape, service = operation.input_shape, operation.service_model
    payload = shape.serialization.get("payload")
    inside = {name: member for name, member in shape.members.items() if "location" not in member.serialization}
    if payload:
        member = shape.members[payload]
        if member.type_name in ("blob", "string"):
            return {payload: request.body} if request.body else {}
    if not request.body:
        return {}
    if not inside:
        findings.note("", f"a body where none is wanted: {shown(request.body)}")
        return {}
    if service.metadata["protocol"] == "rest-xml":
        content_type(request, "application/xml", findings)
        return {payload: XmlReader(findings).read(member, ET.fromstring(request.body), payload)}
    content_type(request, "application/json", findings)
    reader, body = JsonReader(findings), json.loads(request.body)
    if payload:
        return {payload: reader.read(member, body, payload)}
    return reader.members(shape, body, "", {member.serialization.get("name", name): name for name, member in inside.items()})


def compare(operation, request, given, findings):
    """What differs from the request of botocore for the same input."""
    protocol = operation.service_model.metadata["protocol"]
    other = serialize.create_serializer(protocol, include_validation=False).serialize_to_request(given, operation)
    path, query = split(request.target)
    wanted, constants = split(other["url_path"])
    if not unquote(path).rstrip("/").endswith(unquote(wanted).rstrip("/")):
        findings.note("path", f"{path}, where botocore sends {wanted}")
    if request.method != other["method"]:
        findings.note("method", f"{request.method}, where botocore sends {other['method']}")
    if protocol == "query":
        if form_of(request) != {key: str(value) for key, value in other["body"].items()}:
            findings.note("", f"a form that differs from botocore's {shown(other['body'])}")
        return
    theirs = set(constants)
    for key, value in (other["query_string"] or {}).items():
        theirs |= {(key, str(item)) for item in (value if isinstance(value, list) else [value])}
    if {pair for pair in query if pair[0] not in S3_SPARE} != theirs:
        findings.note("query", f"{query}, where botocore sends {sorted(theirs)}")
    if not _same_body(request.body, other["body"]):
        findings.note("body", f"{shown(request.body)}, where botocore sends {shown(other['body'])}")


def _same_body(ours, theirs):
    if isinstance(theirs, str):
        theirs = theirs.encode()
    if ours == theirs:
        return True
    try:
        return json.loads(ours or b"{}") == json.loads(theirs or b"{}")
    except ValueError:
        # XML, which was read member by member; its declaration and namespaces may be written in other ways.
        return ours[:1] == theirs[:1] == b"<"
