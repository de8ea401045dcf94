// Starts dynalite, creates the table, then runs serverless-offline in this process. The benchmark ends the process
// group; `ready` on standard output comes from serverless-offline itself.
const { spawn } = require("node:child_process");
const { DynamoDBClient, CreateTableCommand } = require("@aws-sdk/client-dynamodb");

const [dynamoPort, httpPort, lambdaPort, websocketPort] = process.argv.slice(2);
if (!websocketPort) {
  console.error("usage: node start.js DYNAMODB_PORT HTTP_PORT LAMBDA_PORT WEBSOCKET_PORT");
  process.exit(2);
}
const endpoint = `http://127.0.0.1:${dynamoPort}`;

const dynalite = spawn(
  process.execPath,
  [require.resolve("dynalite/cli.js"), "--host", "127.0.0.1", "--port", dynamoPort, "--createTableMs", "0"],
  { stdio: ["ignore", "ignore", "inherit"] },
);
process.on("exit", () => dynalite.kill());

async function createTable() {
  const client = new DynamoDBClient({
    endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "peer", secretAccessKey: "peer" },
    maxAttempts: 1,
  });
  const create = new CreateTableCommand({
    TableName: "chat-peer",
    BillingMode: "PAY_PER_REQUEST",
    AttributeDefinitions: ["PK", "SK"].map((AttributeName) => ({ AttributeName, AttributeType: "S" })),
    KeySchema: [
      { AttributeName: "PK", KeyType: "HASH" },
      { AttributeName: "SK", KeyType: "RANGE" },
    ],
  });
  const deadline = Date.now() + 20_000;
  for (;;) {
    try {
      return await client.send(create);
    } catch (error) {
      if (error.code !== "ECONNREFUSED" || Date.now() > deadline) throw error;
      await new Promise((again) => setTimeout(again, 20));
    }
  }
}

createTable().then(() => {
  Object.assign(process.env, {
    CHAT_DYNAMODB: endpoint,
    PEER_HTTP_PORT: httpPort,
    PEER_LAMBDA_PORT: lambdaPort,
    PEER_WEBSOCKET_PORT: websocketPort,
    AWS_ACCESS_KEY_ID: "peer",
    AWS_SECRET_ACCESS_KEY: "peer",
    SLS_TELEMETRY_DISABLED: "1",
    SLS_NOTIFICATIONS_MODE: "off",
    SLS_INTERACTIVE_SETUP_ENABLE: "0",
  });
  process.chdir(__dirname);
  process.argv = [process.argv[0], require.resolve("serverless/bin/serverless.js"), "offline"];
  require("serverless/bin/serverless.js");
});
