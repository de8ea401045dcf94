"""Looks at the deployed chat with boto3: API Gateway, @connections, Lambda, Logs, DynamoDB, IAM, all unmodified.

    python boto3_chat.py http://127.0.0.1:4620 ws://127.0.0.1:4620/API/local
"""

import json
import sys
import time
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ENDPOINT, URL = sys.argv[1:3]
API, STAGE = URL.rsplit("/", 2)[1:]
SECONDS = 20


def client(service, endpoint=ENDPOINT, secret="chatctl"):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="chatctl",
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error
    raise AssertionError(f"expected {code}, but the call succeeded")


def open_as(user):
    return connect(f"{URL}?user={user}", subprotocols=["chat.v1"], open_timeout=SECONDS)


def ask(socket, **frame):
    socket.send(json.dumps({"id": "1", **frame}))
    while True:
        answer = json.loads(socket.recv(SECONDS))
        if answer.get("id") == frame.get("id", "1"):
            return answer


def connections():
    gateway = client("apigatewaymanagementapi", f"{ENDPOINT}/{API}/{STAGE}")
    with open_as("boto.alice") as socket:
        connection = ask(socket, action="hello")["conn"]
        seen = gateway.get_connection(ConnectionId=connection)
        assert seen["ConnectedAt"].tzinfo and seen["Identity"]["SourceIp"] == "127.0.0.1", seen
        gateway.post_to_connection(ConnectionId=connection, Data=b'{"type":"bye","code":"from boto3"}')
        assert json.loads(socket.recv(SECONDS))["code"] == "from boto3"
        large = {"ConnectionId": connection, "Data": b"x" * 131073}
        error = refused("PayloadTooLargeException", gateway.post_to_connection, **large)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 413
        gateway.delete_connection(ConnectionId=connection)
        try:
            socket.recv(SECONDS)
            raise AssertionError("the connection is still open")
        except ConnectionClosed:
            pass
    for call in (gateway.get_connection, gateway.delete_connection):
        refused("GoneException", call, ConnectionId=connection)
    try:
        gateway.post_to_connection(ConnectionId=connection, Data=b"x")
        raise AssertionError("posted to a connection that is gone")
    except gateway.exceptions.GoneException:
        pass
    foreign = client("apigatewaymanagementapi", f"{ENDPOINT}/{API}/{STAGE}", secret="wrong")
    error = refused("InvalidSignatureException", foreign.get_connection, ConnectionId=connection)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def api():
    gateway = client("apigatewayv2")
    found = [api for api in gateway.get_apis()["Items"] if api["ApiId"] == API]
    assert len(found) == 1 and found[0]["ProtocolType"] == "WEBSOCKET", found
    assert found[0]["Tags"] == {"chatctl:app": "chat", "chatctl:stage": "local"}, found
    routes = {route["RouteKey"]: route for route in gateway.get_routes(ApiId=API)["Items"]}
    assert set(routes) == {"$connect", "$disconnect", "$default", "ping"}, routes.keys()
    assert routes["$connect"]["AuthorizationType"] == "CUSTOM"
    authorizer = gateway.get_authorizer(ApiId=API, AuthorizerId=routes["$connect"]["AuthorizerId"])
    assert authorizer["AuthorizerType"] == "REQUEST", authorizer
    responses = gateway.get_route_responses(ApiId=API, RouteId=routes["$default"]["RouteId"])["Items"]
    assert [response["RouteResponseKey"] for response in responses] == ["$default"], responses
    stage = gateway.get_stage(ApiId=API, StageName=STAGE)
    deployment = gateway.get_deployment(ApiId=API, DeploymentId=stage["DeploymentId"])
    assert deployment["DeploymentStatus"] == "DEPLOYED", deployment
    refused("NotFoundException", gateway.get_api, ApiId="nothing000")


def functions():
    lambdas = client("lambda")
    for handler in ("connect", "disconnect", "on_message"):
        name = f"chat-local-{handler}"
        function = lambdas.get_function(FunctionName=name, Qualifier="live")
        configuration = function["Configuration"]
        assert (configuration["Runtime"], configuration["Handler"]) == ("provided.al2023", "bootstrap"), configuration
        assert configuration["Version"].isdigit(), configuration
        policy = json.loads(lambdas.get_policy(FunctionName=name, Qualifier="live")["Policy"])
        for statement in policy["Statement"]:
            source = statement["Condition"]["ArnLike"]["AWS:SourceArn"]
            assert f":{API}/" in source, statement
    frame = json.dumps({"action": "who", "id": "1", "room": "r"})
    event = {"requestContext": {"connectionId": "x", "connectedAt": 0}, "body": frame}
    answer = lambdas.invoke(FunctionName="chat-local-on_message", Payload=json.dumps(event), LogType="Tail")
    assert answer["StatusCode"] == 200 and "FunctionError" not in answer, answer
    body = json.loads(json.loads(answer["Payload"].read())["body"])
    assert (body["type"], body["code"]) == ("error", "UNAUTHENTICATED"), body
    answer = lambdas.invoke(FunctionName="chat-local-on_message", Payload=b'"not an event"')
    assert answer["FunctionError"] == "Unhandled", answer
    refused("ResourceNotFoundException", lambdas.get_function, FunctionName="nothing")


def logs():
    lines = client("logs")
    group = "/aws/lambda/chat-local-on_message"
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        events = lines.filter_log_events(logGroupName=group, filterPattern="REPORT")["events"]
        if events:
            break
    assert events and "Duration" in events[0]["message"], events
    found = lines.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found[0]["retentionInDays"] == 14, found


def table():
    tables = client("dynamodb")
    found = tables.describe_table(TableName="chat-local")["Table"]
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST", found
    ttl = tables.describe_time_to_live(TableName="chat-local")["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "x"), ttl
    tags = tables.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"chatctl:app": "chat", "chatctl:stage": "local"}, tags


def roles():
    iam = client("iam")
    found = iam.list_roles(PathPrefix="/chatctl/chat/local/")["Roles"]
    names = sorted(role["RoleName"] for role in found)
    assert names == ["chat-local-connect", "chat-local-disconnect", "chat-local-on_message"], names
    for name in names:
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            assert document["Statement"], document


def main():
    failed = 0
    for check in (connections, api, functions, logs, table, roles):
        try:
            check()
            print(f"ok {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}")
            traceback.print_exc()
    sys.exit(1 if failed else 0)


main()
