"""Drives S3 and CloudFormation of the local cloud with boto3, unmodified: a bucket, an object, a stack with a log group and
a role, changed by change sets, and deleted.

    python boto3_stacks.py http://127.0.0.1:4620

Exits with 1 and says what differed if an answer is not what AWS would give.
"""

import json
import sys
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

RUN = uuid.uuid4().hex[:8]


def client(service):
    return boto3.client(
        service, endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="chatctl",
        aws_secret_access_key="chatctl", config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found} instead of {code}"
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} was expected")


def buckets():
    s3 = client("s3")
    bucket = f"bucket-{RUN}"
    s3.create_bucket(Bucket=bucket)
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    refused("404", s3.head_bucket, Bucket=f"none-{RUN}")
    refused("403", s3.head_bucket, Bucket=bucket, ExpectedBucketOwner="123456789012")
    refused("NoSuchTagSet", s3.get_bucket_tagging, Bucket=bucket)
    tags = [{"Key": "a", "Value": "1 & 2"}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    block = dict.fromkeys(
        ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True
    )
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == block
    key = "a folder/ä+b=c~.txt"
    s3.put_object(Bucket=bucket, Key=key, Body=b"hello", Metadata={"who": "me"}, ContentType="text/plain")
    found = s3.get_object(Bucket=bucket, Key=key)
    assert (found["Body"].read(), found["Metadata"], found["ContentType"]) == (b"hello", {"who": "me"}, "text/plain")
    head = s3.head_object(Bucket=bucket, Key=key)
    assert (head["ContentLength"], head["ETag"]) == (5, found["ETag"])
    refused("404", s3.head_object, Bucket=bucket, Key="none")
    refused("NoSuchKey", s3.get_object, Bucket=bucket, Key="none")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="a ")
    assert [item["Key"] for item in listed["Contents"]] == [key], listed
    refused("BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)


def template(days, **more):
    return json.dumps({"Resources": {
        "Group": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {"LogGroupName": f"/stack/{RUN}", "RetentionInDays": days, **more},
        },
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": f"role-{RUN}",
                "Description": {"Fn::Join": [" ", ["writes to", {"Ref": "Group"}]]},
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ]},
            },
        },
    }})


def stacks():
    cloudformation, logs = client("cloudformation"), client("logs")
    name = f"stack-{RUN}"
    named = {"StackName": name, "ChangeSetName": "one"}
    wait = {"Delay": 1, "MaxAttempts": 30}
    message = refused("InsufficientCapabilitiesException", cloudformation.create_change_set,
                      **named, ChangeSetType="CREATE", TemplateBody=template(7))
    assert "CAPABILITY_NAMED_IAM" in message, message
    make = {"Capabilities": ["CAPABILITY_NAMED_IAM"], **named}
    for body, word in [
        (json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}), "AWS::SQS::Queue"),
        (template(7, KmsKeyId="k"), "KmsKeyId"),
        (template({"Fn::Select": [0, [7]]}), "Fn::Select"),
    ]:
        message = refused("ValidationError", cloudformation.create_change_set,
                          **make, ChangeSetType="CREATE", TemplateBody=body)
        assert word in message, message
    refused("ValidationError", cloudformation.create_change_set, **make, ChangeSetType="UPDATE", TemplateBody=template(7))
    refused("ValidationError", cloudformation.describe_stacks, StackName=name)

    cloudformation.create_change_set(**make, ChangeSetType="CREATE", TemplateBody=template(7))
    cloudformation.get_waiter("change_set_create_complete").wait(**named, WaiterConfig=wait)
    changes = cloudformation.describe_change_set(**named)["Changes"]
    assert [(c["ResourceChange"]["Action"], c["ResourceChange"]["LogicalResourceId"]) for c in changes] == [
        ("Add", "Group"), ("Add", "Role"),
    ], changes
    cloudformation.execute_change_set(**named)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=wait)
    group = logs.describe_log_groups(logGroupNamePrefix=f"/stack/{RUN}")["logGroups"][0]
    assert group["retentionInDays"] == 7
    tags = logs.list_tags_for_resource(resourceArn=group["arn"].removesuffix(":*"))["tags"]
    assert tags["aws:cloudformation:stack-name"] == name, tags
    assert client("iam").get_role(RoleName=f"role-{RUN}")["Role"]["Description"] == f"writes to /stack/{RUN}"

    # Nothing to change is a change set that failed.
    cloudformation.create_change_set(**make, TemplateBody=template(7))
    try:
        cloudformation.get_waiter("change_set_create_complete").wait(**named, WaiterConfig=wait)
        raise AssertionError("an empty change set was made")
    except WaiterError as error:
        assert "didn't contain changes" in error.last_response["StatusReason"], error
    cloudformation.delete_change_set(**named)

    cloudformation.create_change_set(**make, TemplateBody=template(14))
    change = cloudformation.describe_change_set(**named, IncludePropertyValues=True)["Changes"][0]["ResourceChange"]
    target = change["Details"][0]["Target"]
    assert (change["Action"], change["Replacement"]) == ("Modify", "False"), change
    assert (target["Name"], target["BeforeValue"], target["AfterValue"]) == ("RetentionInDays", "7", "14"), target
    cloudformation.execute_change_set(**named)
    cloudformation.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=wait)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    assert events[0]["ResourceStatus"] == "UPDATE_COMPLETE", events[0]
    assert cloudformation.get_template(StackName=name)["TemplateBody"] == json.loads(template(14))
    listed = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    assert [item["LogicalResourceId"] for item in listed] == ["Group", "Role"]

    cloudformation.delete_stack(StackName=name)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=wait)
    assert logs.describe_log_groups(logGroupNamePrefix=f"/stack/{RUN}")["logGroups"] == []


for check in (buckets, stacks):
    check()
    print(f"boto3: {check.__name__} as on AWS")
