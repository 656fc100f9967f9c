"""Says what pip-audit found; status 1 where a locked version has a known vulnerability."""

import json
import sys
from pathlib import Path

try:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["dependencies"]
except ValueError:  # pip-audit has reached no one
    report = []
audited = [one for one in report if "vulns" in one]
found = [one for one in audited if one["vulns"]]
for one in found:
    names = ", ".join(each["id"] for each in one["vulns"])
    print(f"{one['name']} {one['version']}: {names}")
if len(audited) < len(report) or not report:
    missing = len(report) - len(audited) or "any"
    print(f"Not audited: there are no data on vulnerabilities of {missing} packages here.")
if audited:
    print(f"{len(audited)} packages audited, {len(found)} with known vulnerabilities.")
sys.exit(bool(found))
