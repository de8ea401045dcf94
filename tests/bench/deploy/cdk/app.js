// The chat's stack for the CDK, as its own constructs make it: they add the roles, permissions and routes.
const cdk = require("aws-cdk-lib");
const dynamodb = require("aws-cdk-lib/aws-dynamodb");
const gateway = require("aws-cdk-lib/aws-apigatewayv2");
const { WebSocketLambdaIntegration } = require("aws-cdk-lib/aws-apigatewayv2-integrations");
const lambda = require("aws-cdk-lib/aws-lambda");
const logs = require("aws-cdk-lib/aws-logs");

const app = new cdk.App();
const stack = new cdk.Stack(app, "chat-cdk");
const removalPolicy = cdk.RemovalPolicy.DESTROY;

const table = new dynamodb.Table(stack, "Table", {
  tableName: "chat-cdk",
  billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
  partitionKey: { name: "PK", type: dynamodb.AttributeType.STRING },
  sortKey: { name: "SK", type: dynamodb.AttributeType.STRING },
  removalPolicy,
});
const integrate = (name) => {
  const handler = new lambda.Function(stack, name, {
    functionName: `chat-cdk-${name}`,
    runtime: lambda.Runtime.PROVIDED_AL2023,
    handler: "bootstrap",
    code: lambda.Code.fromAsset(`handlers/${name}`),
    memorySize: 256,
    timeout: cdk.Duration.seconds(10),
    environment: { CHAT_TABLE: table.tableName },
    logGroup: new logs.LogGroup(stack, `${name}-logs`, {
      logGroupName: `/aws/lambda/chat-cdk-${name}`,
      retention: logs.RetentionDays.ONE_MONTH,
      removalPolicy,
    }),
  });
  table.grantReadWriteData(handler);
  return { integration: new WebSocketLambdaIntegration(`${name}-integration`, handler) };
};
const api = new gateway.WebSocketApi(stack, "Api", {
  apiName: "chat-cdk",
  routeSelectionExpression: "$request.body.action",
  connectRouteOptions: integrate("connect"),
  disconnectRouteOptions: integrate("disconnect"),
  defaultRouteOptions: integrate("on_message"),
});
new gateway.WebSocketStage(stack, "Stage", { webSocketApi: api, stageName: "bench", autoDeploy: true });
