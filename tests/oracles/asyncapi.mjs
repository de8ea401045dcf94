// Validates docs/asyncapi.yaml with the AsyncAPI initiative's own parser, then its examples of what must be there.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";

import { Parser } from "@asyncapi/parser";

const path = resolve(import.meta.dirname, "../../docs/asyncapi.yaml");
const { document, diagnostics } = await new Parser().parse(await readFile(path, "utf8"));
const ERROR = 0;
const WARNING = 1;
const show = ({ severity, message, path: at, range }) =>
  `${["error", "warning", "info", "hint"][severity]}: line ${range.start.line + 1}, ${at.join(".")}: ${message}`;
for (const diagnostic of diagnostics.filter(({ severity }) => severity <= WARNING)) console.log(show(diagnostic));
if (!document || diagnostics.some(({ severity }) => severity === ERROR)) {
  console.log("docs/asyncapi.yaml is not a valid AsyncAPI document");
  process.exit(1);
}
const operations = document.operations().all();
const messages = document.components().messages().all();
console.log(`AsyncAPI ${document.version()}: ${operations.length} operations, ${messages.length} messages`);
if (!document.version().startsWith("3.") || operations.length === 0) process.exit(1);
