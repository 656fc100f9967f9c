"""The dependency rules of the design, read off the imports."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import svp_lightning

PACKAGE = Path(svp_lightning.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
OTHERS = [
    file
    for name in ("hydra_plugins", "experiments")
    for file in sorted((PACKAGE.parent / name).rglob("*.py"))
]
SIBLINGS = ("generator", "classifier", "simulation", "evaluation", "report")
KNOW_THE_CONFIG = {"__main__", "config", "pipeline", "preflight", "commands"}
COMMAND_LINES, ROOM_LINES = 100, 300
HEAVY = {"numpy", "pandas", "torch", "torchvision", "pytorch_lightning", "matplotlib.figure",
         "sklearn", "diffusers", "cleanlab", "wandb", "onnx", "starlette", "tifffile"}  # fmt: skip
LIGHTNING = "numpy pandas torch torchvision pytorch_lightning matplotlib.figure"
"""Lightning imports torchmetrics, which imports matplotlib's pyplot for figures of its own."""
TASKS = [
    ("a finished run", "__main__ pipeline stages.run_folder commands.verify commands.serve", ""),
    ("a store", "stages.real_store data.importers.flowcam", "numpy pandas"),
    ("ingest", "commands.ingest stages.real_store", "numpy pandas matplotlib.figure"),
    ("report", "commands.report commands.prevalence", "numpy pandas matplotlib.figure"),
    ("doctor", "commands.doctor", "numpy torch"),
    ("predict", "commands.predict stages.lab_report stages.predictor stages.preparation",
     "numpy pandas matplotlib.figure torch torchvision"),
    ("export a classifier", "commands.export commands.import_weights stages.classifier_export",
     "numpy pandas matplotlib.figure torch torchvision"),
    ("train_classifier", "commands.train_classifier stages.classifier_training stages.trainers",
     LIGHTNING),
    ("train_generator", "commands.train_generator stages.generator_training generator.networks",
     LIGHTNING + " diffusers"),
    ("sample", "commands.sample stages.pools generator.networks", LIGHTNING + " diffusers"),
    ("evaluate", "commands.evaluate stages.classifier_training stages.measuring",
     LIGHTNING + " sklearn"),
    ("assess", "commands.assess stages.pools", LIGHTNING + " sklearn"),
]  # fmt: skip
"""Task -> modules that a run of it imports, and the heavy packages that come with them."""


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
    return found


def names_of(file: Path) -> set[tuple[str, str]]:
    """Module and name of everything imported from the package."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    found = [(n.module or "", a.name) for n in nodes if isinstance(n, ast.ImportFrom)
             for a in n.names]  # fmt: skip
    return {(module, name) for module, name in found if module.startswith("svp_lightning")}


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_dependency_rules(file: Path) -> None:
    name, imports = name_of(file), imports_of(file)
    own = {i for i in imports if i.startswith("svp_lightning.")}
    part = name.split(".")[1] if "." in name else ""
    if name in ("svp_lightning.errors", "svp_lightning.data.classes"):
        assert not own, f"{name} is a leaf"
    if part == "runtime":
        assert not {i for i in own if i.split(".")[1] not in ("runtime", "errors")}
    if part in SIBLINGS:
        others = {s for s in SIBLINGS if s != part} | {"stages", "config"}
        if part == "report":
            others.discard("evaluation")  # reports are made of its tables
        breaches = {i for i in own if i.split(".")[1] in others}
        assert not breaches, f"{name} may not import {breaches}"
    if part not in KNOW_THE_CONFIG:
        breaches = {i for i in own if i.split(".")[1] in KNOW_THE_CONFIG}
        assert not breaches, f"{name} takes plain arguments, not {breaches}"
    assert not {i for i in own if i.startswith("svp_lightning.commands")}, (
        "only __main__ calls them"
    )
    if part != "__main__":
        assert not {i for i in imports if i.split(".")[0] in ("hydra", "omegaconf")}
    assert not {i for i in imports if i.split(".")[0] == "wandb"}, "wandb is a logger in conf"
    if part not in ("commands", "config", "web"):
        assert not {i for i in own if i.split(".")[1] == "web"}, "only task=serve knows the page"
    if part == "data":
        assert not {i for i in own if i.split(".")[1] in SIBLINGS}


def test_types() -> None:
    root, command = PACKAGE.parent, [sys.executable, "-m", "mypy"]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f" {len(MODULES) + len(OTHERS)} source files" in done.stdout, done.stdout


def test_nothing_is_unpickled() -> None:
    for file in (*MODULES, *OTHERS):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name, where = ast.unparse(node.func), f"{file}:{node.lineno}"
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                assert "pickle" not in name.lower(), where
                assert given.get("allow_pickle", "False") == "False", where
                if name == "torch.load" or "ckpt_path" in given:
                    assert given.get("weights_only") == "True", where


def test_no_module_needs_itself() -> None:
    """Imports inside functions count: one put there to hide a cycle is a cycle."""
    modules = {name_of(file): file for file in MODULES}
    imported = {
        name: {f"{i}.{n}" if f"{i}.{n}" in modules else i for i, n in names_of(file)} - {name}
        for name, file in modules.items()
    }
    list(TopologicalSorter(imported).static_order())  # raises CycleError, which names them


def test_files_are_short() -> None:
    for file in MODULES:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        most = COMMAND_LINES if file.parent.name == "commands" else ROOM_LINES
        assert lines <= most, f"{name_of(file)} has {lines} lines, more than {most}"


def test_no_file_name_is_used_twice() -> None:
    root = PACKAGE.parent
    folders = ("svp_lightning", "hydra_plugins", "tests", "experiments", "notebooks", "docs", ".ci")
    times = Counter(file.stem for name in folders for file in (root / name).rglob("*.py"))
    repeated = {name for name, count in times.items() if count > 1}
    assert repeated <= {"__init__", "settings", "conftest"}


def test_config_carries_no_logic() -> None:
    conf = PACKAGE.parent / "conf"
    texts = {file: file.read_text(encoding="utf-8") for file in conf.rglob("*.yaml")}
    assert texts
    assert not [file for file, text in texts.items() if "eval:" in text]


def test_experiment_files_hold_differences_only() -> None:
    files = list((PACKAGE.parent / "conf" / "experiment").glob("*.yaml"))
    assert len(files) >= 12
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        assert lines[0] == "# @package _global_"
        assert len(lines) <= 16, f"{file.name} has {len(lines)} lines"


IN_FORKS = """
import importlib, os, sys
for modules, packages in {tasks}:
    if "pytorch_lightning" in packages:  # last: all of them import it
        import pytorch_lightning
    if os.fork() == 0:
        sys.modules.pop("pytorch_lightning", None)  # it is there again where the task imports it
        for name in modules.split():
            importlib.import_module("svp_lightning." + name)
        print(*({heavy} & sys.modules.keys()), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, modules
for name in {modules}:
    importlib.import_module(name)
import torch
assert not torch.cuda.is_initialized() and not torch.distributed.is_initialized()
"""


def test_a_task_imports_only_what_it_uses_and_no_import_needs_a_device() -> None:
    """Of the packages that take long, in processes that have imported nothing else."""
    modules = [name_of(f) for f in MODULES if f.name != "__main__.py" and "commands" not in f.parts]
    code = IN_FORKS.format(tasks=[task[1:] for task in TASKS], heavy=HEAVY, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found = [set(line.split()) for line in done.stdout.splitlines()]
    expected = {task: set(packages.split()) for task, _, packages in TASKS}
    assert dict(zip(expected, found, strict=True)) == expected


def test_the_lock_pins_what_the_constraints_pin() -> None:
    """``make lock`` writes it; Ray is for those who ask for it."""
    root = PACKAGE.parent
    pinned = {line for line in (root / "constraints.txt").read_text().split() if "==" in line}
    lines = (root / "requirements.lock").read_text().splitlines()
    locked = {line.split()[0] for line in lines if not line.startswith(" ")}
    left_out = {line for line in pinned if line.startswith(("ray==", "msgpack=="))}
    assert locked == pinned - left_out
    assert sum("--hash=sha256:" in line for line in lines) > len(locked)
