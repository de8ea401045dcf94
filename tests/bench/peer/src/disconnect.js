// Forget the connection: DeleteItem that returns its rooms, then the subscriptions in batches.
const { BatchWriteItemCommand, DeleteItemCommand } = require("@aws-sdk/client-dynamodb");
const { dynamodb, table } = require("./aws");

const BATCH = 25;

exports.handler = async (event) => {
  const { authorizer, connectionId } = event.requestContext;
  const { Attributes } = await dynamodb.send(
    new DeleteItemCommand({
      TableName: table,
      Key: { PK: { S: `U#${authorizer.principalId}` }, SK: { S: `C#${connectionId}` } },
      ReturnValues: "ALL_OLD",
    }),
  );
  const rooms = Attributes?.rooms?.SS ?? [];
  for (let at = 0; at < rooms.length; at += BATCH) {
    await dynamodb.send(
      new BatchWriteItemCommand({
        RequestItems: {
          [table]: rooms.slice(at, at + BATCH).map((room) => ({
            DeleteRequest: { Key: { PK: { S: `R#${room}` }, SK: { S: `S#${connectionId}` } } },
          })),
        },
      }),
    );
  }
  return { statusCode: 200 };
};
