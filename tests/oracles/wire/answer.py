"""Reads an answer as the output of its operation, strictly, and compares with what botocore's own parser makes of it."""

import json
import xml.etree.ElementTree as ET
import zlib

from botocore import parsers
from botocore.awsrequest import HeadersDict
from botocore.eventstream import EventStreamBuffer

from . import limits
from .findings import shown
from .json_shapes import JsonReader, required
from .request import content_type
from .scalars import from_text
from .xml_shapes import XmlReader, local

# Errors that any operation of a service may give, and that the models therefore do not list: the services' lists of
# common errors.
COMMON = {
    "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId",
    "InvalidSignatureException", "MissingAuthenticationToken", "SignatureDoesNotMatch", "Throttling",
    "ThrottlingException", "UnrecognizedClientException", "ValidationError", "ValidationException",
}
REQUEST_IDS = ("x-amzn-requestid", "x-amz-request-id")


def judge(operation, answer, findings):
    """Whether it is a success."""
    if not any(answer.header(name) for name in REQUEST_IDS):
        findings.note("", "no request id")
    checksum = answer.header("x-amz-crc32")
    if checksum is not None and int(checksum) != zlib.crc32(answer.body):
        findings.note("x-amz-crc32", f"{checksum}, not {zlib.crc32(answer.body)}")
    if answer.status >= 300:
        _error(operation, answer, findings)
        return False
    read = _output(operation, answer, findings)
    wanted = operation.http.get("responseCode", 200)
    by_member = any(each.serialization.get("location") == "statusCode" for each in _members(operation).values())
    if answer.status != wanted and not by_member:
        findings.note("", f"status {answer.status}, not {wanted}")
    _compare(operation, answer, read, findings)
    return True


def _members(operation):
    return operation.output_shape.members if operation.output_shape else {}


def _output(operation, answer, findings):
    service = operation.service_model
    protocol, name = service.metadata["protocol"], service.service_name
    shape = operation.output_shape
    if operation.has_event_stream_output:
        _events(operation, answer, findings)
        return {}
    if protocol == "query":
        return _query(operation, answer, findings)
    if protocol == "json":
        content_type(answer, f"application/x-amz-json-{service.metadata['jsonVersion']}", findings)
        if shape is None:
            _empty(answer, findings)
            return {}
        return JsonReader(findings, answered=True).read(shape, json.loads(answer.body))
    return _rest(operation, answer, findings)


def _empty(answer, findings):
    if answer.body not in (b"", b"{}"):
        findings.note("", f"a body where none is modelled: {shown(answer.body)}")


def _events(operation, answer, findings):
    content_type(answer, "application/vnd.amazon.eventstream", findings)
    shapes = operation.get_event_stream_output().members
    buffer = EventStreamBuffer()
    buffer.add_data(answer.body)
    for event in buffer:
        kind = event.headers.get(":event-type")
        if kind in shapes:
            JsonReader(findings, answered=True).read(shapes[kind], json.loads(event.payload), kind)
        elif kind != "initial-response":
            findings.note(str(kind), "no event of the stream")


def _query(operation, answer, findings):
    service = operation.service_model
    content_type(answer, "text/xml", findings)
    root = ET.fromstring(answer.body)
    wanted = f"{{{service.metadata['xmlNamespace']}}}{operation.name}Response"
    if root.tag != wanted:
        findings.note("", f"{root.tag}, not {wanted}")
    parts = {local(child.tag): child for child in root}
    if parts.pop("ResponseMetadata", None) is None:
        findings.note("", "no ResponseMetadata")
    shape = operation.output_shape
    wrapper = shape.serialization.get("resultWrapper") if shape else None
    inside = parts.pop(wrapper, None) if wrapper else None
    for name in parts:
        findings.note(name, "unknown beside the result")
    if shape is None:
        return {}
    if inside is None:
        findings.note("", f"no {wrapper}")
        return {}
    return XmlReader(findings).read(shape, inside)


def _rest(operation, answer, findings):
    service, shape = operation.service_model, operation.output_shape
    name = service.service_name
    if shape is None:
        _empty(answer, findings)
        return {}
    read, inside = {}, {}
    for member_name, member in shape.members.items():
        place, key = member.serialization.get("location"), member.serialization.get("name", member_name)
        if place == "statusCode":
            read[member_name] = answer.status
        elif place == "header" and (text := answer.header(key.lower())) is not None:
            read[member_name] = from_text(member, text, member_name, findings, "rfc822")
            limits.check(member, read[member_name], member_name, findings)
        elif place == "headers":
            read[member_name] = {
                header[len(key):]: text for header, text in answer.headers if header.lower().startswith(key.lower())
            }
        elif place is None:
            inside[member_name] = member
    payload = shape.serialization.get("payload")
    if payload and shape.members[payload].type_name in ("blob", "string"):
        read[payload] = answer.body
    elif service.metadata["protocol"] == "rest-xml":
        if inside and answer.body:
            content_type(answer, "application/xml", findings)
            root, reader = ET.fromstring(answer.body), XmlReader(findings)
            read |= {payload: reader.read(shape.members[payload], root, payload)} if payload else reader.members(
                shape, root, "", inside)
    elif inside:
        content_type(answer, "application/json", findings)
        # Lambda writes the members that it has no value for as null.
        reader = JsonReader(findings, answered=True, nulls_mean_absent=name == "lambda")
        names = {member.serialization.get("name", key): key for key, member in inside.items()}
        body = json.loads(answer.body or b"{}")
        read |= {payload: reader.read(shape.members[payload], body, payload)} if payload else reader.members(
            shape, body, "", names)
    else:
        _empty(answer, findings)
    required(shape, read, "", findings)
    return read


def _parse(operation, answer, shape):
    parser = parsers.create_parser(operation.service_model.metadata["protocol"])
    response = {
        "status_code": answer.status,
        "headers": HeadersDict(answer.headers),
        "body": answer.body,
        "context": {"operation_name": operation.name},
    }
    return parser.parse(response, shape)


def _compare(operation, answer, read, findings):
    if operation.has_streaming_output or operation.has_event_stream_output:
        return
    parsed = _parse(operation, answer, operation.output_shape)
    parsed.pop("ResponseMetadata", None)
    for name in sorted(set(parsed) | set(read)):
        # An empty list or map without an element of its own is one to botocore, and absent here.
        if (parsed.get(name) or None) != (read.get(name) or None):
            findings.note(name, f"botocore reads {shown(parsed.get(name))} where {shown(read.get(name))} is meant")


def _error(operation, answer, findings):
    service = operation.service_model
    name = service.service_name
    code = _parse(operation, answer, None)["Error"].get("Code") or str(answer.status)
    modelled = {_code(shape): shape for shape in operation.error_shapes}
    shape = modelled.get(code)
    if shape is None:
        if code not in COMMON:
            findings.note("", f"the error {code} is not modelled; {', '.join(sorted(modelled)) or 'none'} is")
        return
    usual = 400 if service.metadata["protocol"] == "json" else None
    status = shape.metadata.get("error", {}).get("httpStatusCode", usual)
    if status is not None and answer.status != status:
        findings.note("", f"{code} with status {answer.status}, not {status}")
    if service.metadata["protocol"] in ("json", "rest-json"):
        # Every error has a message; models spell it in either way, or leave it out.
        spare = {"__type", "message", "Message"}
        JsonReader(findings, answered=True, spare=spare).read(shape, json.loads(answer.body), code)


def _code(shape):
    return shape.metadata.get("error", {}).get("code") or shape.name
