// The two clients of the peer's handlers, created once a process as one does in Lambda, with connections kept alive
// and as many of them as our handlers use for a fan-out.
const { DynamoDBClient } = require("@aws-sdk/client-dynamodb");
const { ApiGatewayManagementApiClient } = require("@aws-sdk/client-apigatewaymanagementapi");
const { NodeHttpHandler } = require("@smithy/node-http-handler");
const http = require("node:http");

const handler = () =>
  new NodeHttpHandler({ httpAgent: new http.Agent({ keepAlive: true, maxSockets: 128 }) });
const credentials = { accessKeyId: "peer", secretAccessKey: "peer" };
const region = "us-east-1";

exports.table = process.env.CHAT_TABLE;
exports.dynamodb = new DynamoDBClient({
  endpoint: process.env.CHAT_DYNAMODB,
  region,
  credentials,
  requestHandler: handler(),
});
exports.gateway = new ApiGatewayManagementApiClient({
  endpoint: process.env.CHAT_CALLBACK_URL,
  region,
  credentials,
  requestHandler: handler(),
});
