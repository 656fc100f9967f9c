"""The cells of a sweep: how each is started, and what became of it."""

import json
import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

# The module hydra.main itself takes its parser from; hydra is pinned below 1.4.
from hydra._internal.utils import get_args_parser
from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import DictConfig

from hydra_plugins.svp_process_launcher import _processes
from hydra_plugins.svp_process_launcher._display import Display, duration, log_tail
from hydra_plugins.svp_process_launcher._environment import (
    LauncherError,
    cell_environment,
    device_groups,
    refuse_inside_distributed_job,
    visible_devices,
)

if TYPE_CHECKING:
    from hydra_plugins.svp_process_launcher.launcher import ProcessLauncher

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
# Overrides of the sweep itself: they mean nothing to a cell, or would start a sweep in it.
_OF_THE_SWEEP = re.compile(r"^[~+]*hydra([./](launcher|sweeper|sweep)([./=@]|$)|\.mode=)")


@dataclass(eq=False)
class Cell:
    """One cell.

    Attributes:
        number: from 1.
        total: number of cells known so far.
        overrides: all overrides of the task, as the sweeper gave them.
        label: the overrides not common to all cells, for people to read.
        command: program and arguments; no shell is involved, so nothing is quoted again.
        process: leader of its process group, once it is started.
        started: on the monotonic clock, seconds.
        log: file with its output; ``None`` if it writes to the terminal.
        log_start: byte of the log at which this start's output begins.
        failure: why it has no result; ``None`` if it finished.
        objective: what it wrote for the sweeper.
    """

    number: int
    total: int
    overrides: list[str]
    label: str
    command: list[str]
    process: "Popen[bytes] | None" = None
    started: float = 0.0
    log: Path | None = None
    log_start: int = 0
    failure: str | None = "not started"
    objective: float | None = None

    @property
    def name(self) -> str:
        """As ``[2/12] seed=2``."""
        return f"[{self.number}/{self.total}] {self.label}".rstrip()


def launch(
    options: "ProcessLauncher",
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    done_before: int,
) -> list[JobReturn]:
    """See :meth:`ProcessLauncher.launch`."""
    refuse_inside_distributed_job(os.environ)
    if options.parallel < 1:
        raise LauncherError(
            f"hydra.launcher.parallel={options.parallel} starts no cell.", "Give 1 or more."
        )
    cells = plan_cells(job_overrides, config.hydra.overrides.hydra, done_before)
    if options.dry_run:
        for cell in cells:
            print(f"# {cell.name}\n{shlex.join(cell.command)}")
        raise SystemExit(0)
    _processes.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="sweep_") as results:
        sweep = _Sweep(options, cells, Path(config.hydra.sweep.dir) / "logs", Path(results))
        with _processes.stop_signals() as received:
            sweep.run(received)
    failed = _summarise(cells)
    if received:
        raise SystemExit(128 + received[0])
    # Other sweepers judge failed cells themselves; this one would add a traceback.
    if failed and config.hydra.sweeper.get("_target_") == _BASIC_SWEEPER:
        raise SystemExit(1)
    return [_job_return(cell) for cell in cells]


def plan_cells(
    job_overrides: Sequence[Sequence[str]], hydra_overrides: Sequence[str], done_before: int
) -> list[Cell]:
    """The cells of one batch, in the sweeper's order.

    Args:
        job_overrides: per cell, its overrides in Hydra's grammar, quotes included.
        hydra_overrides: the sweep's ``hydra.*`` overrides; those meant for a cell are passed on.
        done_before: cells in earlier batches.
    """
    start = [*_program(), *_config_flags(sys.argv[1:])]
    passed_on = [line for line in hydra_overrides if not _OF_THE_SWEEP.match(line)]
    common = set(job_overrides[0]).intersection(*job_overrides) if len(job_overrides) > 1 else set()
    total = done_before + len(job_overrides)
    return [
        Cell(
            number,
            total,
            list(overrides),
            label=" ".join(line for line in overrides if line not in common),
            # The mode is given because the config itself may set hydra.mode to MULTIRUN.
            command=[*start, *overrides, *passed_on, "hydra.mode=RUN"],
        )
        for number, overrides in enumerate(job_overrides, start=done_before + 1)
    ]


def _program() -> list[str]:
    """How to start the running program again: as a module if it is one, else its script."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return [sys.executable, "-m", spec.name.removesuffix(".__main__")]
    script = Path(sys.argv[0]).absolute()
    if not script.exists():
        raise LauncherError(
            f"Cannot tell how to start this program again: {sys.argv[0]!r} is no file.",
            "Start the sweep as a module (python -m package) or as a script.",
        )
    return [sys.executable, str(script)]


def _config_flags(arguments: Sequence[str]) -> list[str]:
    """The flags among Hydra's command-line ``arguments`` that say where configs come from."""
    given, _ = get_args_parser().parse_known_args(list(arguments))
    flags = {
        f"--config-{name}": getattr(given, f"config_{name}") for name in ("path", "name", "dir")
    }
    return [word for flag, value in flags.items() if value is not None for word in (flag, value)]


class _Sweep:
    """One batch of cells on this machine, ``parallel`` at a time, each in a numbered slot."""

    def __init__(
        self, options: "ProcessLauncher", cells: Sequence[Cell], logs: Path, results: Path
    ) -> None:
        self.options, self.logs, self.results = options, logs, results
        self.waiting = list(cells)
        self.running: dict[int, Cell] = {}
        self.ended: list[Cell] = []
        self.environment = cell_environment(os.environ, options.parallel)
        visible = visible_devices(os.environ, Path("/dev"))
        self.groups = device_groups(options.devices, options.parallel, visible)
        self.display = Display(live=options.parallel > 1 and sys.stdout.isatty())

    def run(self, received: list[int]) -> None:
        """Run all cells, or until a signal; no process of theirs is left afterwards."""
        with self.display.live or nullcontext():
            try:
                while (self.waiting or self.running) and not received:
                    self._start_cells()
                    self._collect(received)
                    self._show()
                    time.sleep(_processes.POLL_SECONDS)
            finally:
                leaders = [cell.process for cell in self.running.values() if cell.process]
                _processes.end(leaders, received[0] if received else signal.SIGTERM, received)

    def _start_cells(self) -> None:
        if self.options.stop_on_failure and any(cell.failure for cell in self.ended):
            self.waiting.clear()
        for slot in range(self.options.parallel):
            if slot not in self.running and self.waiting:
                self.running[slot] = self.waiting.pop(0)
                self._start(self.running[slot], slot)

    def _start(self, cell: Cell, slot: int) -> None:
        environment = self.environment | {
            "SVP_SWEEP_CELL": f"{cell.number}/{cell.total}",
            "SVP_CELL_RESULT": str(self._result(cell)),
        }
        if self.groups:
            environment["CUDA_VISIBLE_DEVICES"] = self.groups[slot % len(self.groups)]
        if self.options.parallel > 1:
            self.logs.mkdir(parents=True, exist_ok=True)
            cell.log = self.logs / f"{cell.number:03d}.log"
            with cell.log.open("a") as file:  # earlier starts of the cell stay in it
                file.write(f"$ {shlex.join(cell.command)}\n")
                cell.log_start = file.tell()
        self.display.say(cell.name + (f" started, log: {cell.log}" if cell.log else ""))
        cell.process = _processes.start(cell.command, environment, cell.log)
        cell.started = time.monotonic()
        cell.failure = "stopped"  # what it is if the sweep ends first

    def _collect(self, received: list[int]) -> None:
        for slot, cell in list(self.running.items()):
            assert cell.process is not None
            status = cell.process.poll()
            if status is None:
                continue
            _processes.end([cell.process], signal.SIGTERM if status else None, received)
            self.ended.append(self.running.pop(slot))
            cell.failure = _in_words(status)
            if status == 0 and self._result(cell).exists():
                cell.objective, cell.failure = _objective(self._result(cell))
            self._report(cell)

    def _report(self, cell: Cell) -> None:
        took = duration(time.monotonic() - cell.started)
        said = f"{cell.name} finished in {took}"
        if cell.failure:
            said = f"{cell.name} FAILED after {took}: {cell.failure}"
            if cell.log is not None:
                tail = "\n  | ".join(log_tail(cell.log, cell.log_start).split("\n"))
                said += f"\n{cell.log} ends with:\n  | {tail}"
        self.display.say(said)

    def _show(self) -> None:
        failures = sum(cell.failure is not None for cell in self.ended)
        counts = f"{len(self.ended) - failures} finished, {failures} failed, "
        counts += f"{len(self.running)} running, {len(self.waiting)} waiting"
        rows = [
            (cell.name, cell.started, cell.log, cell.log_start) for cell in self.running.values()
        ]
        self.display.update(rows, counts)

    def _result(self, cell: Cell) -> Path:
        return self.results / f"{cell.number}.json"


def _objective(result: Path) -> tuple[float | None, str | None]:
    """What a cell wrote for the sweeper, or what is wrong with it."""
    try:
        return float(json.loads(result.read_text())["objective"]), None
    except (ValueError, KeyError, TypeError) as error:
        return None, f'wrote no {{"objective": number}} to SVP_CELL_RESULT ({error!r})'


def _in_words(status: int) -> str | None:
    if status >= 0:
        return f"exit status {status}" if status else None
    hint = " (often: out of memory)" if status == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-status).name}{hint}"


def _summarise(cells: Sequence[Cell]) -> bool:
    """Print how many cells finished and which ones did not; whether there are any of these."""
    failed = [cell for cell in cells if cell.failure]
    broken = [cell for cell in failed if cell.process is not None]
    parts = [f"{len(cells) - len(failed)} finished"]
    parts += [f"{len(broken)} failed"] if broken else []
    parts += [f"{len(failed) - len(broken)} not started"] if len(broken) < len(failed) else []
    lines = [", ".join(parts) + (":" if broken else ".")]
    for cell in broken:
        lines.append(f"  {cell.name}: {cell.failure}" + (f" ({cell.log})" if cell.log else ""))
    print("\n".join(lines), file=sys.stderr if failed else sys.stdout, flush=True)
    return bool(failed)


def _job_return(cell: Cell) -> JobReturn:
    returned = JobReturn(
        overrides=cell.overrides,
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.FAILED if cell.failure else JobStatus.COMPLETED,
    )
    returned.return_value = (
        LauncherError(f"{cell.name}: {cell.failure}.") if cell.failure else cell.objective
    )
    return returned
