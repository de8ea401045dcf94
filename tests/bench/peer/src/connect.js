// Who is this (the authorizer), and remember the connection ($connect): one PutItem.
const { PutItemCommand } = require("@aws-sdk/client-dynamodb");
const { dynamodb, table } = require("./aws");

const ID = /^[A-Za-z0-9_.:-]{1,64}$/;
const CONNECTION_SECONDS = 2 * 3600 + 600;

exports.authorize = async (event) => {
  const user = event.queryStringParameters?.user;
  if (!user || !ID.test(user)) throw new Error("Unauthorized");
  return {
    principalId: user,
    context: { name: user },
    policyDocument: {
      Version: "2012-10-17",
      Statement: [{ Action: "execute-api:Invoke", Effect: "Allow", Resource: event.methodArn }],
    },
  };
};

exports.connect = async (event) => {
  const { authorizer, connectionId } = event.requestContext;
  await dynamodb.send(
    new PutItemCommand({
      TableName: table,
      Item: {
        PK: { S: `U#${authorizer.principalId}` },
        SK: { S: `C#${connectionId}` },
        x: { N: String(Math.floor(Date.now() / 1000) + CONNECTION_SECONDS) },
      },
    }),
  );
  return { statusCode: 200, headers: { "Sec-WebSocket-Protocol": "chat.v1" } };
};
