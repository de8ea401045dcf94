"""parliament, with AWS's service authorization reference in it, judges the policy that `chatctl policy` prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

from parliament import analyze_policy_string

ROOT = Path(__file__).resolve().parent.parent.parent
CHATCTL = os.environ.get("CHATCTL", str(ROOT / "target/debug/chatctl"))

# API Gateway asks for it although its reference does not list it: docs/quirks.md.
EXPLAINED = {("UNKNOWN_ACTION", "apigateway:TagResource")}


def findings(policy):
    found = analyze_policy_string(json.dumps(policy)).findings
    return [finding for finding in found if (finding.issue, finding.location.get("string")) not in EXPLAINED]


def policy(stage):
    command = [CHATCTL, "policy", "--stage", stage, "--account", "123456789012", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "CHATCTL_SETTINGS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])["data"]["policy"]


failed = False
for stage in ("dev", "pr-*"):
    document = policy(stage)
    for finding in findings(document):
        print(f"{stage}: {finding}")
        failed = True
    print(f"{stage}: {len(document['Statement'])} statements, {len(json.dumps(document))} characters")

# It must be able to object.
wrong = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iam:DanceRole", "Resource": "*"}}
if not findings(wrong):
    print("an action that does not exist was not found")
    failed = True
sys.exit(1 if failed else 0)
