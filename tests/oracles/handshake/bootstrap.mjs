// A runtime for Lambda that runs app.js, which lies beside it: the handler's name is the export.
import { createRequire } from "node:module";

const app = createRequire(import.meta.url)(`${process.env.LAMBDA_TASK_ROOT}/app.js`);
const handle = app[process.env._HANDLER];
const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

for (;;) {
  const next = await fetch(`${api}/next`);
  const id = next.headers.get("lambda-runtime-aws-request-id");
  const event = await next.json();
  try {
    await fetch(`${api}/${id}/response`, { method: "POST", body: JSON.stringify(await handle(event)) });
  } catch (error) {
    const body = JSON.stringify({ errorMessage: error.message, errorType: error.name });
    await fetch(`${api}/${id}/error`, { method: "POST", body });
  }
}
