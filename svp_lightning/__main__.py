"""The command line: compose → check → save the resolved config → call the command.

The only module that knows Hydra. Commands get typed settings; torch is imported when one needs it,
so ``--help``, ``--cfg job`` and a mistyped key answer at once.
"""

import gc
import importlib
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from svp_lightning import preflight
from svp_lightning.config import (
    OF_IMAGES,
    Config,
    help_text,
    parse_config,
    run_folder,
    run_identity,
)
from svp_lightning.errors import DistributedError, SettingsError, SvpError, mistakes_in_one_line
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.distributed import (
    end_with_main_process,
    is_main_process,
    launch_id,
    note_failure,
    started_by_srun,
)
from svp_lightning.runtime.files import (
    explaining_write_errors,
    nothing_left_on_failure,
    sha256_of_file,
    sha256_of_json,
    write_text,
)
from svp_lightning.runtime.settings import as_typed, config_folder, literal
from svp_lightning.runtime.trail import record, recorded
from svp_lightning.stages import run_folder as kept
from svp_lightning.stages.settings import SimulatedData

UNTYPED = ("logger", "callbacks", "hydra")
"""Groups that are not part of the typed settings."""
TRACED = ("evaluate", "assess", "audit", "predict", "export", "import_weights")
"""Tasks whose results the audit trail records."""


def configured(*overrides: str) -> Config:
    """The settings of a command line, for scripts and notebooks: ``configured("scale=lab")``.

    Raises:
        SettingsError: a setting is missing or impossible.
    """
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return parse_config(_plain(hydra.compose("config", overrides=list(overrides))))


@mistakes_in_one_line()
def run(cfg: DictConfig) -> None:
    """Check a composed configuration, name the run and hand over to the command."""
    config = parse_config(_plain(cfg))
    _refuse_impossible_runs(config)
    end_with_main_process()
    launch_id()  # before any child process starts, so that all of a launch share it
    run_dir = run_folder(config)
    # Loggers may refer to the run's folder, which is known only now.
    OmegaConf.update(cfg, "paths.run", literal(str(run_dir)), force_add=True)
    with explaining_write_errors(run_dir):
        done = config.task == "evaluate" and kept.finished(run_dir)
    if done:
        print(f"Already finished: {run_dir} (delete the folder to run it again)")
        if is_main_process() and not recorded(config.paths.outputs, run_dir, kept.RESULTS):
            _trace(config, run_dir)  # it was interrupted before this line
        kept.report_objective(run_dir)
        return
    try:
        with Pipeline(config, run_dir, partial(_build, cfg)) as pipeline:
            if config.task in OF_IMAGES and not isinstance(config.data, SimulatedData):
                _ = pipeline.store  # before torch: a mistake in the images is reported at once
            if config.task in OF_IMAGES and config.task != "ingest":
                pipeline.trainers.make("")  # impossible ones are refused before images are made
            command = importlib.import_module(f"svp_lightning.commands.{config.task}")
            _carry_out(command.run, pipeline, cfg)
    except BaseException as error:
        note_failure(config.paths.artifacts, error)
        raise
    if is_main_process() and config.task == "evaluate":
        kept.report_objective(run_dir)


@mistakes_in_one_line()
def dry_run(cells: Sequence[tuple[str, DictConfig]], parallel: int, first: bool = False) -> None:
    """Say what each cell of a sweep has still to make; the launcher ``process`` calls this.

    A wrong setting of a cell ends the program.
    """
    preflight.show([(name, parse_config(_plain(cfg))) for name, cfg in cells], parallel, first)


def needs(cells: Sequence[tuple[str, DictConfig]]) -> preflight.Needs:
    """What the cells of a sweep use of this machine; the launcher ``process`` calls this."""
    configs = {}
    for name, cfg in cells:
        with suppress(SvpError):  # the cell says so
            configs[name] = parse_config(_plain(cfg))
    return preflight.needs(configs)


def _carry_out(
    command: Callable[[Pipeline], Path | None], pipeline: Pipeline, cfg: DictConfig
) -> None:
    """Call the command and keep its settings: of an evaluation first, as it can be resumed.

    A new folder of ``ingest`` or ``predict`` is whole or not there. What was written, in the run's
    folder unless the command returns another, is recorded in the audit trail.
    """
    task, run_dir, data = pipeline.config.task, pipeline.run_dir, pipeline.config.data
    with nothing_left_on_failure(run_dir) if task in ("ingest", "predict") else nullcontext():
        if task == "evaluate" and is_main_process():
            _record(cfg, run_dir, data.label_overrides)
        written = command(pipeline) or run_dir
        if task in ("assess", "audit", "predict") and is_main_process():
            _record(cfg, run_dir, data.label_overrides)
        if task in TRACED and is_main_process():
            _trace(pipeline.config, written)


def _trace(config: Config, written: Path) -> None:
    """Add a line to the audit trail."""
    facts = {"configuration": sha256_of_json(run_identity(config))}
    if config.data.label_overrides is not None:
        facts["label_overrides"] = sha256_of_file(config.data.label_overrides)
    record(config.paths.outputs, config.task, written, facts, derived={kept.PREVALENCE})


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolve to plain containers; logger and callback nodes stay for :mod:`hydra` to build.

    Raises:
        SettingsError: a setting without a default (``data.root``) was not given.
    """
    try:
        values = {str(k): _resolved(cfg[k]) for k in cfg if k not in UNTYPED}
    except MissingMandatoryValue as error:
        name = error.full_key
        raise SettingsError(f"{name} must be given.", f"Add {name}=… to the command.") from error
    except OmegaConfBaseException as error:
        raise SettingsError(
            f"A value cannot be resolved: {str(error).splitlines()[0]}.",
            "Where a value holds ${, type a backslash before it: 'data.root=\"/a\\${b}\"'.",
        ) from error
    values["paths"].pop("run", None)
    return values


def _resolved(node: Any) -> Any:
    if not OmegaConf.is_config(node):
        return node
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def _build(cfg: DictConfig, group: str) -> list[Any]:
    """The objects of a config group (``logger``, ``callbacks``).

    Raises:
        SettingsError: one cannot be made.
    """
    nodes = cfg.get(group) or {}
    try:
        return [
            hydra.utils.instantiate(node, **_continued(cfg, node))
            for node in nodes.values()
            if node is not None
        ]
    except hydra.errors.InstantiationException as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"The {group} settings cannot be used: {reason}.", f"See conf/{group}/."
        ) from error


def _continued(cfg: DictConfig, node: DictConfig) -> dict[str, str]:
    """What makes a logger continue the run of an attempt that was interrupted."""
    new = str(node.get("_target_")).endswith(".WandbLogger") and "id" not in node
    return {"id": kept.wandb_run_id(Path(cfg.paths.run))} if new and is_main_process() else {}


def _record(cfg: DictConfig, run_dir: Path, overrides: Path | None) -> None:
    """Keep the resolved configuration, corrected labels and the command with the results."""
    used = list(cfg)
    if cfg.task == "predict":  # neither this configuration's classifier nor labels have a part
        used, overrides = ["task", "study", "data", "predict", "trainer", "paths"], None
    values = {str(part): _resolved(cfg[part]) for part in used}
    write_text(run_dir / kept.CONFIG, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    command = shlex.join(["python", "-m", "svp_lightning", *sys.argv[1:]])
    write_text(run_dir / "command.txt", command + "\n")
    if overrides is not None:
        kept.copy(overrides, run_dir / kept.OVERRIDES)


def _refuse_impossible_runs(config: Config) -> None:
    """Refuse what no single setting shows.

    An experiment is composed last, so it would lead a debug run into its own study; the default
    data of a prediction would be thousands of simulated images; and in a sweep in one process,
    Lightning's relaunch would re-enter the whole sweep (hydra #2070) and go wrong silently.
    """
    if not HydraConfig.initialized():
        return
    called, trainer = HydraConfig.get(), config.trainer
    debug, experiment = (called.runtime.choices.get(group) for group in ("debug", "experiment"))
    if debug is not None and experiment is not None:
        raise SettingsError(
            f"debug={debug} and +experiment={experiment} exclude one another: the experiment "
            "would overrule parts of debug, and the run would end in the real study.",
            "Leave out one of them; with debug, choose what to try by its groups "
            "(classifier=resnet50 augmentation=diffusion).",
        )
    if config.task == "predict" and not any(o.startswith("data=") for o in called.overrides.task):
        raise SettingsError(
            "task=predict has no images: data is not given.",
            "Add data=flowcam, data=mfi, data=collage or data=folder, and data.root=… "
            "(data=simulated classifies simulated images).",
        )
    if called.mode != RunMode.MULTIRUN or started_by_srun():
        return
    if trainer.may_start_processes(lambda: importlib.import_module("torch").cuda.device_count()):
        raise DistributedError(
            f"trainer.devices={trainer.devices} with strategy={trainer.strategy} inside a sweep "
            "that runs its cells in one process would repeat the sweep on each device.",
            "Use hydra/launcher=process, which gives each cell a process of its own, or "
            "trainer.devices=1.",
        )


def refuse_unquoted(arguments: Sequence[str]) -> None:
    """Refuse what Hydra's grammar takes apart: ``data.root=/data/Größe``, ``~/x``, ``a,b=c``.

    Raises:
        SettingsError: with the argument as it is to be typed.
    """
    sweeps = bool({"-m", "--multirun"} & set(arguments))
    parser = OverridesParser.create()
    for argument in arguments:
        key, mark, value = argument.partition("=")
        if not mark or key.startswith("-"):
            continue
        several = None
        with suppress(HydraException):
            several = parser.parse_override(argument).is_sweep_override() and not sweeps
        if several is False:
            continue
        if value[:1] == "{" and value[-1] != "}":
            cut = f"{argument} is cut short: a shell takes braces apart."
            raise SettingsError(cut, f'Quote all of it: "{key}={{…}}".')
        also = " For a sweep over several values add -m." if several else ""
        raise SettingsError(
            f"{argument} holds characters with a meaning of their own.",
            f"Type {as_typed(key, value)} with all of its quotes.{also}",
        )


def main() -> None:
    """Entry point of ``python -m svp_lightning``."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_text())
        return
    # Imports make a million objects that stay; to look for garbage among them takes a tenth longer.
    gc.set_threshold(200_000, 20, 20)
    with mistakes_in_one_line():
        refuse_unquoted(sys.argv[1:])
    program = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="config")
    try:
        program(run)()
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning makes the one of the other
        if KeyboardInterrupt not in (type(error), type(error.__context__)):
            raise
        if is_main_process():
            print("\nStopped. The same command resumes.", file=sys.stderr, flush=True)
        sys.exit(130)  # 128 + SIGINT, as shells have it


if __name__ == "__main__":
    main()
