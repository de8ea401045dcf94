// What both gateways are asked to serve. The case is in the query of the upgrade, or in the action of a message.

exports.authorize = async (event) => {
  const { user } = event.queryStringParameters ?? {};
  if (user === "unauthorized") throw new Error("Unauthorized");
  if (user === "broken") throw new Error("on purpose");
  const Effect = user === "denied" ? "Deny" : "Allow";
  const statement = { Effect, Action: "execute-api:Invoke", Resource: event.methodArn };
  return { principalId: user, policyDocument: { Version: "2012-10-17", Statement: [statement] }, context: { user } };
};

exports.connect = async (event) => {
  const { connect } = event.queryStringParameters ?? {};
  if (connect === "throws") throw new Error("on purpose");
  const offered = Object.entries(event.headers ?? {}).find(([name]) => name.toLowerCase() === "sec-websocket-protocol");
  const headers = offered && connect !== "mute" ? { "Sec-WebSocket-Protocol": offered[1].split(",")[0].trim() } : {};
  return { statusCode: Number(connect) || 200, headers };
};

exports.message = async (event) => {
  if (event.body.includes("throws")) throw new Error("on purpose");
  if (event.body.includes("whoami")) {
    const { authorizer, routeKey, eventType } = event.requestContext;
    return { statusCode: 200, body: JSON.stringify({ user: authorizer?.user, routeKey, eventType }) };
  }
  return { statusCode: 200, body: event.body };
};
