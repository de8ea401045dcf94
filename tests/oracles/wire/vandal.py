"""What other people do to a stage behind its deployer's back, so that a deploy has to mend it."""

import json

import boto3
from botocore.config import Config

TAGS = ["chatctl:app", "chatctl:stage"]
MANAGED = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
STRAY_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
TEMPLATES = {"$default": '{"statusCode":500}'}


class Account:
    """Clients with the owner's credentials."""

    def __init__(self, endpoint, keys=("chatctl", "chatctl"), region="us-east-1"):
        self.endpoint, self.keys, self.region = endpoint, keys, region

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.keys[0],
            aws_secret_access_key=self.keys[1],
            config=Config(retries={"total_max_attempts": 1}),
        )


def vandalise(account, prefix):
    for what in (_data, _roles, _functions, _gateway):
        what(account, prefix)


def _data(account, prefix):
    tables, logs = account.client("dynamodb"), account.client("logs")
    arn = tables.describe_table(TableName=prefix)["Table"]["TableArn"]
    tables.untag_resource(ResourceArn=arn, TagKeys=TAGS)
    ttl = {"Enabled": False, "AttributeName": "x"}
    tables.update_time_to_live(TableName=prefix, TimeToLiveSpecification=ttl)
    group = f"/aws/lambda/{prefix}-connect"
    logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    arn = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["arn"].removesuffix(":*")
    logs.untag_resource(resourceArn=arn, tagKeys=TAGS)


def _roles(account, prefix):
    iam = account.client("iam")
    trust = json.loads(json.dumps(iam.get_role(RoleName=f"{prefix}-connect")["Role"]["AssumeRolePolicyDocument"]))
    trust["Statement"][0]["Principal"] = {"Service": "ec2.amazonaws.com"}
    iam.update_assume_role_policy(RoleName=f"{prefix}-connect", PolicyDocument=json.dumps(trust))
    policy = json.dumps(STRAY_POLICY)
    iam.put_role_policy(RoleName=f"{prefix}-connect", PolicyName="stray", PolicyDocument=policy)
    iam.untag_role(RoleName=f"{prefix}-disconnect", TagKeys=TAGS)
    iam.attach_role_policy(RoleName=f"{prefix}-disconnect", PolicyArn=MANAGED)
    iam.put_role_permissions_boundary(RoleName=f"{prefix}-on_message", PermissionsBoundary=MANAGED)


def _functions(account, prefix):
    lambdas = account.client("lambda")
    arn = lambdas.get_function(FunctionName=f"{prefix}-connect")["Configuration"]["FunctionArn"]
    lambdas.untag_resource(Resource=arn, TagKeys=TAGS)
    lambdas.put_function_concurrency(FunctionName=f"{prefix}-disconnect", ReservedConcurrentExecutions=1)
    lambdas.add_permission(
        FunctionName=f"{prefix}-on_message", Qualifier="live", StatementId="chatctl-stray",
        Action="lambda:InvokeFunction", Principal="apigateway.amazonaws.com",
    )


def _gateway(account, prefix):
    gateway = account.client("apigatewayv2")
    api = next(api["ApiId"] for api in gateway.get_apis()["Items"] if api["Name"] == prefix)
    routes = {route["RouteKey"]: route["RouteId"] for route in gateway.get_routes(ApiId=api)["Items"]}
    integrations = gateway.get_integrations(ApiId=api)["Items"]
    ping = next(each["IntegrationId"] for each in integrations if each.get("Description") == "ping")
    authorizer = gateway.get_authorizers(ApiId=api)["Items"][0]
    answer = gateway.get_integration_responses(ApiId=api, IntegrationId=ping)["Items"][0]
    stage = prefix.rpartition("-")[2]

    gateway.update_api(ApiId=api, RouteSelectionExpression="$request.body.other")
    gateway.update_route(ApiId=api, RouteId=routes["$default"], Target=f"integrations/{ping}")
    mock = {"ApiId": api, "IntegrationType": "MOCK", "RequestTemplates": TEMPLATES}
    gateway.update_integration(**mock, IntegrationId=ping)
    gateway.update_integration_response(
        ApiId=api, IntegrationId=ping, IntegrationResponseId=answer["IntegrationResponseId"], ResponseTemplates=TEMPLATES
    )
    source = ["route.request.header.Other"]
    gateway.update_authorizer(ApiId=api, AuthorizerId=authorizer["AuthorizerId"], IdentitySource=source)
    log = {"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:stray", "Format": "$context.requestId"}
    slow = {"$default": {"ThrottlingRateLimit": 1.0, "ThrottlingBurstLimit": 1}}
    gateway.update_stage(ApiId=api, StageName=stage, RouteSettings=slow, AccessLogSettings=log)
    arn = f"arn:aws:apigateway:{account.region}::/apis/{api}/stages/{stage}"
    gateway.untag_resource(ResourceArn=arn, TagKeys=TAGS)

    gateway.create_authorizer(
        ApiId=api, Name="stray", AuthorizerType="REQUEST", AuthorizerUri=authorizer["AuthorizerUri"],
        IdentitySource=["route.request.querystring.user"],
    )
    stray = gateway.create_integration(**mock, Description="stray")["IntegrationId"]
    gateway.create_integration_response(
        ApiId=api, IntegrationId=ping, IntegrationResponseKey="/500/", ResponseTemplates=TEMPLATES
    )
    gateway.create_route(ApiId=api, RouteKey="stray", Target=f"integrations/{stray}")
    gateway.create_route_response(ApiId=api, RouteId=routes["$disconnect"], RouteResponseKey="$default")
    # More than a deploy keeps to go back to.
    for _ in range(8):
        deployment = gateway.create_deployment(ApiId=api)["DeploymentId"]
    gateway.create_stage(ApiId=api, StageName="stray", DeploymentId=deployment)
