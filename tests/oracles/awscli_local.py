"""Drives the cloud with the AWS CLI as a person would: `aws --endpoint-url …`.

    python awscli_local.py http://127.0.0.1:4620 ws://127.0.0.1:4620/API/local
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ENDPOINT, URL = sys.argv[1:3]
API = URL.rsplit("/", 2)[1]
AWS = Path(sys.executable).parent / "aws"


def aws(*args, fails=None):
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "chatctl",
        "AWS_SECRET_ACCESS_KEY": "chatctl",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
    }
    command = [str(AWS), "--endpoint-url", ENDPOINT, "--output", "json", *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if fails:
        assert done.returncode != 0 and fails in done.stderr, (args, done.stdout, done.stderr)
        return None
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def main():
    assert aws("sts", "get-caller-identity")["Account"] == "000000000000"

    assert "chat-local" in aws("dynamodb", "list-tables")["TableNames"]
    key = '{"PK":{"S":"R#cli"},"SK":{"S":"#"}}'
    item = '{"PK":{"S":"R#cli"},"SK":{"S":"#"},"type":{"S":"room"}}'
    aws("dynamodb", "put-item", "--table-name", "chat-local", "--item", item)
    assert aws("dynamodb", "get-item", "--table-name", "chat-local", "--key", key)["Item"]["type"] == {"S": "room"}
    aws("dynamodb", "delete-item", "--table-name", "chat-local", "--key", key)
    aws("dynamodb", "describe-table", "--table-name", "nothing", fails="ResourceNotFoundException")

    routes = aws("apigatewayv2", "get-routes", "--api-id", API)["Items"]
    assert {"$connect", "$disconnect", "$default", "ping"} == {route["RouteKey"] for route in routes}

    names = {function["FunctionName"] for function in aws("lambda", "list-functions")["Functions"]}
    assert {"chat-local-connect", "chat-local-disconnect", "chat-local-on_message"} <= names, names
    with tempfile.NamedTemporaryFile() as answer:
        frame = json.dumps({"action": "who", "id": "1", "room": "r"})
        event = json.dumps({"requestContext": {"connectionId": "x", "connectedAt": 0}, "body": frame})
        invoked = aws("lambda", "invoke", "--function-name", "chat-local-on_message", "--payload", event, answer.name)
        assert invoked["StatusCode"] == 200, invoked
        assert "UNAUTHENTICATED" in Path(answer.name).read_text()
    alias = aws("lambda", "get-alias", "--function-name", "chat-local-connect", "--name", "live")
    assert alias["FunctionVersion"].isdigit(), alias

    roles = aws("iam", "list-roles", "--path-prefix", "/chatctl/chat/local/")["Roles"]
    assert len(roles) == 3, roles

    events = aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/chat-local-on_message")["events"]
    assert any("START" in event["message"] for event in events), events
    aws("logs", "filter-log-events", "--log-group-name", "/nothing", fails="ResourceNotFoundException")

    gone = aws("apigatewayv2", "get-api", "--api-id", "nothing000", fails="NotFoundException")
    assert gone is None
    print("ok awscli")


main()
