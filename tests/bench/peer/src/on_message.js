// hello, join and send of `chat.v1` with the calls of protocol.md: parse, authorise, store, look up recipients, forward.
const {
  PutItemCommand,
  QueryCommand,
  UpdateItemCommand,
  ConditionalCheckFailedException,
} = require("@aws-sdk/client-dynamodb");
const { PostToConnectionCommand } = require("@aws-sdk/client-apigatewaymanagementapi");
const { dynamodb, gateway, table } = require("./aws");

const ID = /^[A-Za-z0-9_.:-]{1,64}$/;
const CONNECTION_SECONDS = 2 * 3600 + 600;
const TAIL = 20;
const ATTEMPTS = 8;

exports.handler = async (event) => {
  const { authorizer, connectionId } = event.requestContext;
  let frame;
  try {
    frame = JSON.parse(event.body);
  } catch {
    return reply({ type: "error", code: "BAD_JSON", retry: false });
  }
  const verb = VERBS[frame.action];
  if (!verb) return reply({ type: "error", id: frame.id, code: "UNKNOWN_ACTION", retry: false });
  return reply(await verb(frame, authorizer.principalId, connectionId));
};

const reply = (frame) => ({ statusCode: 200, body: JSON.stringify(frame) });
const expiry = () => String(Math.floor(Date.now() / 1000) + CONNECTION_SECONDS);
const seqKey = (seq) => `M#${String(seq).padStart(12, "0")}`;

const VERBS = {
  hello: async (frame, user, conn) => ({
    type: "welcome",
    id: frame.id,
    v: 1,
    user,
    conn,
    heartbeat: 540,
    expires: Number(expiry()),
    rooms: [],
  }),

  join: async (frame, user, conn) => {
    const { id, room } = frame;
    if (!ID.test(room)) return { type: "error", id, code: "BAD_REQUEST", retry: false };
    await dynamodb.send(
      new UpdateItemCommand({
        TableName: table,
        Key: { PK: { S: `U#${user}` }, SK: { S: `C#${conn}` } },
        UpdateExpression: "ADD rooms :room",
        ConditionExpression: "attribute_exists(PK)",
        ExpressionAttributeValues: { ":room": { SS: [room] } },
      }),
    );
    await dynamodb.send(
      new PutItemCommand({
        TableName: table,
        Item: { PK: { S: `R#${room}` }, SK: { S: `S#${conn}` }, u: { S: user }, x: { N: expiry() } },
      }),
    );
    return { type: "ack", id, room };
  },

  send: async (frame, user, conn) => {
    const { id, room, body } = frame;
    if (!ID.test(id) || !ID.test(room)) return { type: "error", id, code: "BAD_REQUEST", retry: false };
    const [subscribers, firstTail] = await Promise.all([subscriptions(room), tail(room, false)]);
    const now = Date.now();
    const live = subscribers.filter((item) => Number(item.x.N) * 1000 > now);
    if (!live.some((item) => item.SK.S === `S#${conn}`)) {
      return { type: "error", id, code: "NOT_IN_ROOM", retry: false };
    }
    let last = firstTail;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const same = last.find((item) => item.mid.S === id && item.u.S === user);
      if (same) {
        const seq = Number(same.SK.S.slice(2));
        return { type: "ack", id, room, seq, ts: Number(same.t.N), dup: true };
      }
      const seq = last.length ? Number(last[0].SK.S.slice(2)) + 1 : 1;
      try {
        await dynamodb.send(
          new PutItemCommand({
            TableName: table,
            Item: {
              PK: { S: `R#${room}` },
              SK: { S: seqKey(seq) },
              u: { S: user },
              mid: { S: id },
              t: { N: String(now) },
              body: { S: JSON.stringify(body) },
            },
            ConditionExpression: "attribute_not_exists(PK)",
          }),
        );
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
        last = await tail(room, true);
        continue;
      }
      const message = { type: "message", room, seq, from: user, mid: id, ts: now, body };
      const data = Buffer.from(JSON.stringify(message));
      await Promise.all(live.map((item) => post(item.SK.S.slice(2), data)));
      return { type: "ack", id, room, seq, ts: now, dup: false };
    }
    return { type: "error", id, code: "CONFLICT", retry: true };
  },
};

async function subscriptions(room) {
  const items = [];
  let from;
  do {
    const page = await dynamodb.send(
      new QueryCommand({
        TableName: table,
        KeyConditionExpression: "PK = :room AND begins_with(SK, :kind)",
        ExpressionAttributeValues: { ":room": { S: `R#${room}` }, ":kind": { S: "S#" } },
        ProjectionExpression: "SK, u, x",
        ExclusiveStartKey: from,
      }),
    );
    items.push(...page.Items);
    from = page.LastEvaluatedKey;
  } while (from);
  return items;
}

async function tail(room, consistent) {
  const page = await dynamodb.send(
    new QueryCommand({
      TableName: table,
      KeyConditionExpression: "PK = :room AND begins_with(SK, :kind)",
      ExpressionAttributeValues: { ":room": { S: `R#${room}` }, ":kind": { S: "M#" } },
      ProjectionExpression: "SK, u, mid, t",
      ScanIndexForward: false,
      Limit: TAIL,
      ConsistentRead: consistent,
    }),
  );
  return page.Items;
}

async function post(connectionId, data) {
  try {
    await gateway.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data: data }));
  } catch (error) {
    // Gone is somebody who left while this was on its way.
    if (error.name !== "GoneException") throw error;
  }
}
