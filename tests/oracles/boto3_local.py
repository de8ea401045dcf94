"""Drives DynamoDB, IAM, STS and CloudWatch Logs of the local cloud with boto3, unmodified.

    python boto3_local.py http://127.0.0.1:4620

Exits with 1 and says what differed if an answer is not what AWS would give.
"""

import json
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
import uuid

import boto3
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

ENDPOINT = sys.argv[1]
ACCOUNT = "000000000000"
REGION = "us-east-1"
# Names of this run, so that the script may run twice against one cloud.
RUN = uuid.uuid4().hex[:8]
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
            {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"},
        ],
    }
)


def client(service, key="chatctl", secret="chatctl", token=None, region=REGION, **options):
    return boto3.client(
        service,
        endpoint_url=ENDPOINT,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, **options),
    )


def refused(code, call, *args, **kwargs):
    """Expects a call to fail with a code; returns the error."""
    try:
        call(*args, **kwargs)
    except ClientError as error:
        actual = error.response["Error"]["Code"]
        assert actual == code, f"expected {code}, got {actual}: {error}"
        return error
    raise AssertionError(f"expected {code}, but the call succeeded")


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource):
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def session_of(role):
    credentials = client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="worker")["Credentials"]
    return {
        "key": credentials["AccessKeyId"],
        "secret": credentials["SecretAccessKey"],
        "token": credentials["SessionToken"],
    }


def signatures():
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == ACCOUNT and identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:root", identity
    assert identity["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    # Any region may be in the scope.
    client("dynamodb", region="eu-central-1").list_tables()

    for service, call, wrong_secret, unknown_key in [
        ("sts", "get_caller_identity", "SignatureDoesNotMatch", "InvalidClientTokenId"),
        ("iam", "list_roles", "SignatureDoesNotMatch", "InvalidClientTokenId"),
        ("dynamodb", "list_tables", "InvalidSignatureException", "UnrecognizedClientException"),
        ("logs", "describe_log_groups", "InvalidSignatureException", "UnrecognizedClientException"),
        ("lambda", "list_functions", "InvalidSignatureException", "UnrecognizedClientException"),
        ("apigatewayv2", "get_apis", "InvalidSignatureException", "UnrecognizedClientException"),
    ]:
        refused(wrong_secret, getattr(client(service, secret="wrong"), call))
        refused(unknown_key, getattr(client(service, key="AKIAUNKNOWN"), call))
        refused(unknown_key, getattr(client(service, token="not a token"), call))

    # A presigned URL of GetCallerIdentity works as it is, and not with another secret.
    for secret, status in [("chatctl", 200), ("wrong", 403)]:
        request = AWSRequest("GET", f"{ENDPOINT}/?Action=GetCallerIdentity&Version=2011-06-15")
        SigV4QueryAuth(Credentials("chatctl", secret), "sts", REGION, expires=60).add_auth(request)
        try:
            with urllib.request.urlopen(request.url) as answer:
                assert answer.status == status, answer.status
        except urllib.error.HTTPError as error:
            assert error.code == status, error.code


def unknown_operations():
    error = refused("UnknownOperationException", client("dynamodb").list_backups)
    assert "ListBackups" in str(error), error
    error = refused("InvalidAction", client("iam").list_groups)
    assert "ListGroups" in str(error), error
    error = refused("UnknownOperationException", client("logs").describe_destinations)
    assert "DescribeDestinations" in str(error), error
    error = refused("UnknownOperationException", client("lambda").list_layers)
    assert "/layers" in str(error), error


def tables():
    dynamodb = client("dynamodb")
    name = f"table-{RUN}"
    created = dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": key, "AttributeType": "S"} for key in ["PK", "SK", "by"]
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-name",
                "KeySchema": [{"AttributeName": "by", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        Tags=[{"Key": "app", "Value": "chat"}],
        DeletionProtectionEnabled=True,
    )["TableDescription"]
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"
    assert created["TableArn"] == arn, created["TableArn"]
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    described = dynamodb.describe_table(TableName=name)["Table"]
    assert described["TableStatus"] == "ACTIVE" and described["DeletionProtectionEnabled"] is True, described
    assert described["GlobalSecondaryIndexes"][0]["IndexArn"] == f"{arn}/index/by-name", described
    assert name in dynamodb.list_tables()["TableNames"]
    refused("ResourceInUseException", dynamodb.create_table, TableName=name, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}])

    assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [{"Key": "app", "Value": "chat"}]
    dynamodb.tag_resource(ResourceArn=arn, Tags=[{"Key": "stage", "Value": "local"}])
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=["app"])
    assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == [{"Key": "stage", "Value": "local"}]

    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert ttl["TimeToLiveStatus"] == "DISABLED", ttl
    enable = {"Enabled": True, "AttributeName": "x"}
    dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=enable)
    ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "x"}, ttl
    refused("ValidationException", dynamodb.update_time_to_live, TableName=name, TimeToLiveSpecification=enable)

    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "DISABLED", backups
    dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    recovery = backups["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED" and recovery["RecoveryPeriodInDays"] == 35, recovery
    assert recovery["LatestRestorableDateTime"] >= recovery["EarliestRestorableDateTime"]
    refused("TableNotFoundException", dynamodb.describe_continuous_backups, TableName="missing")

    items(dynamodb, name, arn)

    refused("ValidationException", dynamodb.delete_table, TableName=name)
    dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName=name)
    dynamodb.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    refused("ResourceNotFoundException", dynamodb.describe_table, TableName=name)


def items(dynamodb, name, arn):
    def key(pk, sk):
        return {"PK": {"S": pk}, "SK": {"S": sk}}

    for n in range(30):
        dynamodb.put_item(
            TableName=arn if n % 2 else name,
            Item={**key("R#a", f"M#{n:04}"), "n": {"N": str(n)}, "by": {"S": "alice" if n % 3 else "bob"},
                  "b": {"B": b"\0\xff"}, "s": {"SS": ["x", "y"]}, "m": {"M": {"k": {"BOOL": True}, "l": {"NULL": True}}}},
        )
    item = dynamodb.get_item(TableName=name, Key=key("R#a", "M#0003"), ConsistentRead=True)["Item"]
    assert item["n"] == {"N": "3"} and item["b"] == {"B": b"\0\xff"}, item
    assert "Item" not in dynamodb.get_item(TableName=name, Key=key("R#a", "none"))
    refused("ResourceNotFoundException", dynamodb.get_item, TableName="missing", Key=key("a", "b"))
    refused("ValidationException", dynamodb.get_item, TableName=name, Key={"PK": {"S": "a"}})

    pages = dynamodb.get_paginator("query").paginate(
        TableName=name, KeyConditionExpression="PK = :p AND begins_with(SK, :s)",
        ExpressionAttributeValues={":p": {"S": "R#a"}, ":s": {"S": "M#"}},
        ScanIndexForward=False, PaginationConfig={"PageSize": 7})
    numbers = [int(item["n"]["N"]) for page in pages for item in page["Items"]]
    assert numbers == list(range(29, -1, -1)), numbers
    by = dynamodb.query(TableName=name, IndexName="by-name", KeyConditionExpression="#b = :b", Select="COUNT",
                        ExpressionAttributeNames={"#b": "by"}, ExpressionAttributeValues={":b": {"S": "bob"}})
    assert by["Count"] == 10, by
    assert dynamodb.scan(TableName=name, Limit=4)["LastEvaluatedKey"]

    error = refused("ConditionalCheckFailedException", dynamodb.put_item, TableName=name, Item=key("R#a", "M#0000"),
                    ConditionExpression="attribute_not_exists(PK)", ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert error.response["Item"]["n"] == {"N": "0"}, error.response
    updated = dynamodb.update_item(
        TableName=name, Key=key("U#a", "C#1"), UpdateExpression="ADD rooms :r SET #at = if_not_exists(#at, :t)",
        ExpressionAttributeNames={"#at": "at"}, ExpressionAttributeValues={":r": {"SS": ["r1"]}, ":t": {"N": "5"}},
        ReturnValues="ALL_NEW")["Attributes"]
    assert updated["rooms"] == {"SS": ["r1"]} and updated["at"] == {"N": "5"}, updated
    old = dynamodb.delete_item(TableName=name, Key=key("U#a", "C#1"), ReturnValues="ALL_OLD")["Attributes"]
    assert old["at"] == {"N": "5"}, old

    written = dynamodb.batch_write_item(RequestItems={name: [
        {"PutRequest": {"Item": key("batch", str(n))}} for n in range(20)] + [
        {"DeleteRequest": {"Key": key("R#a", "M#0000")}}]})
    assert written["UnprocessedItems"] == {}, written
    got = dynamodb.batch_get_item(RequestItems={arn: {"Keys": [key("batch", str(n)) for n in range(20)]}})
    assert sum(len(found) for found in got["Responses"].values()) == 20, got

    dynamodb.transact_write_items(TransactItems=[
        {"Put": {"TableName": name, "Item": key("t", "1")}},
        {"ConditionCheck": {"TableName": name, "Key": key("batch", "1"), "ConditionExpression": "attribute_exists(PK)"}}])
    error = refused("TransactionCanceledException", dynamodb.transact_write_items, TransactItems=[
        {"Put": {"TableName": name, "Item": key("t", "2")}},
        {"Put": {"TableName": name, "Item": key("t", "1"), "ConditionExpression": "attribute_not_exists(PK)"}}])
    reasons = [reason["Code"] for reason in error.response["CancellationReasons"]]
    assert reasons == ["None", "ConditionalCheckFailed"], reasons
    assert "Item" not in dynamodb.get_item(TableName=name, Key=key("t", "2"))
    gets = dynamodb.transact_get_items(TransactItems=[{"Get": {"TableName": name, "Key": key("t", "1")}}])
    assert gets["Responses"][0]["Item"]["PK"] == {"S": "t"}, gets

    for n, expired in enumerate([True, False]):
        at = int(time.time()) + (-3600 if expired else 3600)
        dynamodb.put_item(TableName=name, Item={**key("ttl", str(n)), "x": {"N": str(at)}})
    deadline = time.time() + 30
    while "Item" in dynamodb.get_item(TableName=name, Key=key("ttl", "0")):
        assert time.time() < deadline, "the expired item is still there after 30 s"
        time.sleep(0.2)
    assert "Item" in dynamodb.get_item(TableName=name, Key=key("ttl", "1"))


def roles():
    iam = client("iam")
    name, path = f"role-{RUN}", f"/app/{RUN}/"
    role = iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=TRUST, Description="a <b> & c",
                           Tags=[{"Key": "app", "Value": "chat + co"}])["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role{path}{name}", role
    assert role["AssumeRolePolicyDocument"] == json.loads(TRUST), role["AssumeRolePolicyDocument"]
    refused("EntityAlreadyExists", iam.create_role, RoleName=name, AssumeRolePolicyDocument=TRUST)
    refused("ValidationError", iam.tag_role, RoleName=name, Tags=[{"Key": "app", "Value": "chat & co"}])
    read = iam.get_role(RoleName=name)["Role"]
    assert read["Tags"] == [{"Key": "app", "Value": "chat + co"}] and read["Description"] == "a <b> & c", read
    assert read["MaxSessionDuration"] == 3600 and read["CreateDate"] == role["CreateDate"], read
    refused("NoSuchEntity", iam.get_role, RoleName="missing")
    refused("MalformedPolicyDocument", iam.create_role, RoleName="other", AssumeRolePolicyDocument="{")
    missing = TRUST.replace('"AWS": "' + ACCOUNT, f'"AWS": "arn:aws:iam::{ACCOUNT}:role/missing')
    error = refused("MalformedPolicyDocument", iam.create_role, RoleName="other", AssumeRolePolicyDocument=missing)
    assert "Invalid principal in policy" in str(error), error

    for n in range(5):
        iam.create_role(RoleName=f"{name}-{n}", Path=path, AssumeRolePolicyDocument=TRUST)
    pages = iam.get_paginator("list_roles").paginate(PathPrefix=path, PaginationConfig={"PageSize": 2})
    names = [role["RoleName"] for page in pages for role in page["Roles"]]
    assert names == [name] + [f"{name}-{n}" for n in range(5)], names
    for n in range(5):
        iam.delete_role(RoleName=f"{name}-{n}")

    document = policy(allow("dynamodb:PutItem", "*"))
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
    read = iam.get_role_policy(RoleName=name, PolicyName="p")
    assert read["PolicyDocument"] == json.loads(document), read
    assert iam.list_role_policies(RoleName=name)["PolicyNames"] == ["p"]
    assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
    assert iam.list_instance_profiles_for_role(RoleName=name)["InstanceProfiles"] == []
    refused("MalformedPolicyDocument", iam.put_role_policy, RoleName=name, PolicyName="q", PolicyDocument="{}")
    refused("NoSuchEntity", iam.get_role_policy, RoleName=name, PolicyName="q")
    refused("LimitExceeded", iam.put_role_policy, RoleName=name, PolicyName="q",
            PolicyDocument=policy(*[allow("dynamodb:PutItem", f"arn:aws:dynamodb:*:*:table/{'x' * 200}")] * 50))
    refused("DeleteConflict", iam.delete_role, RoleName=name)

    basic = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    iam.attach_role_policy(RoleName=name, PolicyArn=basic)
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": basic}], attached
    iam.detach_role_policy(RoleName=name, PolicyArn=basic)

    iam.tag_role(RoleName=name, Tags=[{"Key": "stage", "Value": "local"}])
    iam.untag_role(RoleName=name, TagKeys=["app"])
    assert iam.list_role_tags(RoleName=name)["Tags"] == [{"Key": "stage", "Value": "local"}]
    iam.update_role(RoleName=name, MaxSessionDuration=7200)
    assert iam.get_role(RoleName=name)["Role"]["MaxSessionDuration"] == 7200
    trust = TRUST.replace("lambda.amazonaws.com", "apigateway.amazonaws.com")
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust)
    assert iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"] == json.loads(trust)
    iam.delete_role_policy(RoleName=name, PolicyName="p")
    iam.delete_role(RoleName=name)


def access():
    iam, dynamodb = client("iam"), client("dynamodb")
    name, table = f"worker-{RUN}", f"access-{RUN}"
    for suffix in ["", "-other"]:
        dynamodb.create_table(TableName=table + suffix, BillingMode="PAY_PER_REQUEST",
                              KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
                              AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}])
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy(
        allow(["dynamodb:PutItem", "dynamodb:Batch*"], arn),
        {"Effect": "Deny", "Action": "dynamodb:BatchGetItem", "Resource": "*"}))
    session = session_of(role)
    identity = client("sts", **session).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/worker", identity
    assert identity["UserId"] == f"{role['RoleId']}:worker", identity

    worker = client("dynamodb", **session)
    item = {"k": {"S": "1"}}
    worker.put_item(TableName=table, Item=item)
    worker.put_item(TableName=arn, Item=item)
    error = refused("AccessDeniedException", worker.get_item, TableName=table, Key=item)
    assert str(error).endswith(
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{name}/worker is not authorized to perform: dynamodb:GetItem on "
        f"resource: {arn} because no identity-based policy allows the dynamodb:GetItem action"), error
    refused("AccessDeniedException", worker.put_item, TableName=table + "-other", Item=item)
    error = refused("AccessDeniedException", worker.batch_get_item, RequestItems={table: {"Keys": [item]}})
    assert "with an explicit deny in an identity-based policy" in str(error), error
    put = [{"PutRequest": {"Item": item}}]
    worker.batch_write_item(RequestItems={table: put})
    refused("AccessDeniedException", worker.batch_write_item, RequestItems={table: put, table + "-other": put})
    worker.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": item}}])
    refused("AccessDeniedException", worker.transact_write_items, TransactItems=[
        {"Put": {"TableName": table, "Item": item}}, {"Delete": {"TableName": table, "Key": item}}])
    refused("AccessDenied", client("iam", **session).list_roles)
    refused("AccessDeniedException", client("logs", **session).describe_log_groups)
    refused("AccessDeniedException", client("lambda", **session).list_functions)
    refused("AccessDeniedException", client("apigatewayv2", **session).get_apis)

    user = f"user-{RUN}"
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    signed = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    refused("AccessDenied", client("iam", **signed).get_role, RoleName=name)
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy(allow("iam:Get*", role["Arn"])))
    assert client("iam", **signed).get_role(RoleName=name)["Role"]["Arn"] == role["Arn"]
    refused("AccessDenied", client("sts", **signed).assume_role, RoleArn=role["Arn"], RoleSessionName="worker")
    iam.delete_user_policy(UserName=user, PolicyName="p")
    iam.delete_access_key(UserName=user, AccessKeyId=signed["key"])
    refused("InvalidClientTokenId", client("iam", **signed).get_role, RoleName=name)
    iam.delete_user(UserName=user)

    iam.delete_role_policy(RoleName=name, PolicyName="p")
    refused("AccessDeniedException", worker.put_item, TableName=table, Item=item)
    iam.delete_role(RoleName=name)
    refused("UnrecognizedClientException", worker.put_item, TableName=table, Item=item)
    for suffix in ["", "-other"]:
        dynamodb.delete_table(TableName=table + suffix)


def logs():
    logs = client("logs")
    group = f"/app/{RUN}"
    logs.create_log_group(logGroupName=group, tags={"app": "chat"})
    refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=group)
    refused("InvalidParameterException", logs.create_log_group, logGroupName="a b")
    found = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
    assert [g["logGroupArn"] for g in found] == [arn] and found[0]["arn"] == f"{arn}:*", found
    assert "retentionInDays" not in found[0]
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    refused("InvalidParameterException", logs.put_retention_policy, logGroupName=group, retentionInDays=8)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["retentionInDays"] == 7
    logs.delete_retention_policy(logGroupName=group)
    logs.tag_resource(resourceArn=arn, tags={"stage": "local"})
    logs.untag_resource(resourceArn=arn, tagKeys=["app"])
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"stage": "local"}
    logs.tag_log_group(logGroupName=group, tags={"legacy": "yes"})
    assert logs.list_tags_log_group(logGroupName=group)["tags"] == {"stage": "local", "legacy": "yes"}

    now = int(time.time() * 1000)
    for stream in ["a", "b"]:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[
            {"timestamp": now + n, "message": json.dumps({"level": "ERROR" if n % 5 == 0 else "INFO", "n": n})}
            for n in range(20)])
    refused("ResourceNotFoundException", logs.put_log_events, logGroupName=group, logStreamName="c",
            logEvents=[{"timestamp": now, "message": "x"}])
    refused("ResourceNotFoundException", logs.filter_log_events, logGroupName=group + "x")
    refused("InvalidParameterException", logs.filter_log_events, logGroupName=group, filterPattern='{ $.a "')

    def search(pattern, **more):
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group, filterPattern=pattern, PaginationConfig={"PageSize": 3}, **more)
        return [event for page in pages for event in page["events"]]

    assert len(search("")) == 40
    assert len({event["eventId"] for event in search("")}) == 40
    assert len(search("ERROR")) == 8
    assert len(search("-ERROR")) == 32
    assert len(search('?ERROR ?"19"')) == 10
    assert len(search('{ $.level = "ERROR" && $.n >= 10 }')) == 4
    assert len(search("", startTime=now + 18)) == 4
    assert len(search("", logStreamNames=["b"])) == 20
    streams = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)["logStreams"]
    assert [s["logStreamName"] for s in streams] == ["b", "a"] and streams[0]["lastEventTimestamp"] == now + 19, streams
    page = logs.get_log_events(logGroupName=group, logStreamName="a", limit=5, startFromHead=True)
    assert [json.loads(e["message"])["n"] for e in page["events"]] == [0, 1, 2, 3, 4], page
    page = logs.get_log_events(logGroupName=group, logStreamName="a", limit=5, nextToken=page["nextForwardToken"])
    assert [json.loads(e["message"])["n"] for e in page["events"]] == [5, 6, 7, 8, 9], page

    live_tail(group, arn)
    logs.delete_log_group(logGroupName=group)
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []
    refused("ResourceNotFoundException", logs.delete_log_group, logGroupName=group)


def live_tail(group, arn):
    # AWS has a host of its own for this operation, which no local name can have.
    tail = client("logs", inject_host_prefix=False).start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern="live")
    stream = iter(tail["responseStream"])
    assert next(stream)["sessionStart"]["logGroupIdentifiers"] == [arn]
    done = threading.Event()

    def write():
        logs = client("logs")
        while not done.is_set():
            now = int(time.time() * 1000)
            logs.put_log_events(logGroupName=group, logStreamName="a", logEvents=[
                {"timestamp": now, "message": "live line"}, {"timestamp": now, "message": "other line"}])
            done.wait(0.2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            results = next(stream)["sessionUpdate"]["sessionResults"]
            if results:
                assert {r["message"] for r in results} == {"live line"}, results
                assert results[0]["logGroupIdentifier"] == arn, results
                return
        raise AssertionError("no line arrived in 10 updates")
    finally:
        done.set()
        writer.join()
        tail["responseStream"].close()


def main():
    failed = 0
    for check in [signatures, unknown_operations, tables, roles, access, logs]:
        try:
            check()
            print(f"ok {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}")
            traceback.print_exc()
    sys.exit(1 if failed else 0)


main()
