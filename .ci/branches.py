"""Says how many branches of the code the tests take; status 1 below 90 %."""

import json
import sys
from pathlib import Path

LEAST = 90

totals = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["totals"]
taken, there = totals["covered_branches"], totals["num_branches"]
print(f"{taken:,} of {there:,} branches are taken: {taken / there:.1%}")
sys.exit(100 * taken < LEAST * there)
