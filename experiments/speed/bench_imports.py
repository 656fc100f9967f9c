"""Processor time that each task spends on imports; prints one JSON line.

What a task imports at all is held by tests/test_architecture.py.

Usage:
    python experiments/speed/bench_imports.py [--tasks ingest,predict] [--repeats 2]
"""

import argparse
import json
import os
import subprocess
import sys

MODULES = {
    "help": "",
    "verify": "commands.verify",
    "ingest": "stages.real_store data.importers.folder commands.ingest",
    "report": "commands.report",
    "prevalence": "commands.prevalence",
    "doctor": "commands.doctor",
    "train_classifier": "commands.train_classifier stages.classifier_training",
    "evaluate": "commands.evaluate stages.classifier_training",
    "train_generator": "stages.generator_training generator.networks",
    "sample": "stages.pools generator.networks",
    "assess": "commands.assess generator.networks stages.pools",
    "audit": "commands.audit stages.classifier_training",
    "predict": "commands.predict stages.lab_report stages.predictor",
    "export (classifier)": "commands.export stages.classifier_export",
    "serve": "commands.serve web.application",
}
"""Task -> modules of the package that a run of it imports, beyond the command line's own."""
MODULES["all of them"] = " ".join(MODULES.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(MODULES))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps({task: least(task, options.repeats) for task in options.tasks.split(",")}))


def least(task: str, repeats: int) -> float:
    """Seconds of user and system time, the least of some runs (the first may fill disk caches)."""
    names = ["__main__", *MODULES[task].split()]
    code = "import " + ", ".join(f"svp_lightning.{name}" for name in names)
    seconds = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = os.times()
        used = after.children_user + after.children_system
        seconds.append(used - before.children_user - before.children_system)
    return round(min(seconds), 2)


if __name__ == "__main__":
    main()
