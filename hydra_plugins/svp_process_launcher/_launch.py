"""Running the cells of a sweep: which starts when, where, and what became of it."""

import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import DictConfig

from hydra_plugins.svp_process_launcher import _processes
from hydra_plugins.svp_process_launcher._display import display_for, duration, log_tail
from hydra_plugins.svp_process_launcher._environment import (
    cell_environment,
    device_groups,
    refuse_inside_distributed_job,
    visible_devices,
)
from hydra_plugins.svp_process_launcher._errors import LauncherError
from hydra_plugins.svp_process_launcher._plan import Cell, plan_cells
from hydra_plugins.svp_process_launcher._running import Outcome, Running

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


class Options(Protocol):
    """What is asked of the launcher: the fields of ``ProcessLauncherConf``."""

    parallel: int
    devices: list[int] | None
    dry_run: bool
    stop_on_failure: bool


def launch(
    options: Options,
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
    with tempfile.TemporaryDirectory(prefix="sweep_") as scratch:
        sweep = Sweep(options, cells, Path(config.hydra.sweep.dir) / "logs", Path(scratch))
        with _processes.stop_signals() as request:
            sweep.run(request)
    sweep.summarise()
    if request.signals:
        raise SystemExit(128 + request.signals[0])
    # Other sweepers judge failed cells themselves; this one would add a traceback.
    if sweep.failed and config.hydra.sweeper.get("_target_") == _BASIC_SWEEPER:
        raise SystemExit(1)
    return [_job_return(cell, sweep.outcomes[cell.number]) for cell in cells]


class Sweep:
    """One batch of cells on this machine, ``parallel`` at a time, each in a numbered slot."""

    def __init__(self, options: Options, cells: Sequence[Cell], logs: Path, scratch: Path) -> None:
        self.cells = cells
        self.outcomes: dict[int, Outcome] = {}
        self._waiting = list(cells)
        self._running: dict[int, Running] = {}
        self._parallel = options.parallel
        self._stop_on_failure = options.stop_on_failure
        self._logs = logs
        self._scratch = scratch
        self._environment = cell_environment(os.environ, options.parallel)
        visible = visible_devices(os.environ, Path("/dev"))
        self._groups = device_groups(options.devices, options.parallel, visible)
        self._display = display_for(options.parallel)

    @property
    def failed(self) -> list[Cell]:
        """The cells that have ended without a result, those never started included."""
        return [cell for cell in self.cells if self._outcome(cell).failure]

    def run(self, request: _processes.StopRequest) -> None:
        """Run all cells, or until a signal; no process of theirs is left afterwards."""
        with self._display:
            try:
                while (self._waiting or self._running) and not request.signals:
                    self._start_cells()
                    self._collect(request)
                    self._display.update(self._running, self._counts())
                    time.sleep(_processes.POLL_SECONDS)
            finally:
                self._stop_all(request)

    def summarise(self) -> None:
        """Print how many cells finished and which ones did not."""
        unstarted = len(self.cells) - len(self.outcomes)
        broken = [cell for cell in self.failed if cell.number in self.outcomes]
        parts = [f"{len(self.cells) - len(self.failed)} finished"]
        parts += [f"{len(broken)} failed"] if broken else []
        parts += [f"{unstarted} not started"] if unstarted else []
        lines = [", ".join(parts) + (":" if broken else ".")]
        for cell in broken:
            outcome = self.outcomes[cell.number]
            where = f" ({outcome.log})" if outcome.log else ""
            lines.append(f"  {cell.name}: {outcome.failure}{where}")
        print("\n".join(lines), file=sys.stderr if self.failed else sys.stdout, flush=True)

    def _start_cells(self) -> None:
        if self._stop_on_failure and any(outcome.failure for outcome in self.outcomes.values()):
            self._waiting.clear()
        for slot in range(self._parallel):
            if slot not in self._running and self._waiting:
                self._running[slot] = self._start(self._waiting.pop(0), slot)

    def _start(self, cell: Cell, slot: int) -> Running:
        result = self._scratch / f"{cell.number}.json"
        environment = self._environment | {
            "SVP_SWEEP_CELL": f"{cell.number}/{cell.total}",
            "SVP_CELL_RESULT": str(result),
        }
        if self._groups:
            environment["CUDA_VISIBLE_DEVICES"] = self._groups[slot % len(self._groups)]
        log, log_start = None, 0
        if self._parallel > 1:
            log = self._logs / f"{cell.number:03d}.log"
            log_start = _open_log(log, cell)
        self._display.say(cell.name if log is None else f"{cell.name} started, log: {log}")
        process = _processes.start(cell.command, environment, log)
        return Running(cell, process, result, log, log_start, time.monotonic())

    def _collect(self, request: _processes.StopRequest) -> None:
        for slot, running in list(self._running.items()):
            status = running.process.poll()
            if status is None:
                continue
            _processes.end([running.process], signal.SIGTERM if status else None, request)
            del self._running[slot]
            outcome = _outcome_of(running, status)
            self.outcomes[running.cell.number] = outcome
            self._report(running, outcome)

    def _report(self, running: Running, outcome: Outcome) -> None:
        took = duration(running.seconds)
        if outcome.failure is None:
            self._display.say(f"{running.cell.name} finished in {took}")
            return
        said = f"{running.cell.name} FAILED after {took}: {outcome.failure}"
        if running.log is not None:
            tail = log_tail(running.log, running.log_start)
            said += f"\n{running.log} ends with:\n" + "\n".join(
                f"  | {line}" for line in tail.split("\n")
            )
        self._display.say(said)

    def _stop_all(self, request: _processes.StopRequest) -> None:
        signum = request.signals[0] if request.signals else signal.SIGTERM
        _processes.end([running.process for running in self._running.values()], signum, request)
        for running in self._running.values():
            self.outcomes[running.cell.number] = Outcome("stopped", log=running.log)
        self._running.clear()

    def _outcome(self, cell: Cell) -> Outcome:
        return self.outcomes.get(cell.number, Outcome("not started"))

    def _counts(self) -> dict[str, int]:
        failures = sum(outcome.failure is not None for outcome in self.outcomes.values())
        return {
            "finished": len(self.outcomes) - failures,
            "failed": failures,
            "running": len(self._running),
            "waiting": len(self._waiting),
        }


def _open_log(log: Path, cell: Cell) -> int:
    """Head the part of ``log`` that this start writes; earlier starts of the cell stay in it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.write(f"$ {shlex.join(cell.command)}\n")
        return file.tell()


def _outcome_of(running: Running, status: int) -> Outcome:
    failure, objective = _status_in_words(status), None
    if failure is None and running.result.exists():
        try:
            objective = float(json.loads(running.result.read_text())["objective"])
        except (ValueError, KeyError, TypeError) as error:
            failure = f'wrote no {{"objective": number}} to SVP_CELL_RESULT ({error!r})'
    return Outcome(failure, objective, running.log)


def _status_in_words(status: int) -> str | None:
    if status == 0:
        return None
    if status > 0:
        return f"exit status {status}"
    hint = " (often: out of memory)" if status == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-status).name}{hint}"


def _job_return(cell: Cell, outcome: Outcome) -> JobReturn:
    finished = outcome.failure is None
    returned = JobReturn(
        overrides=list(cell.overrides),
        working_dir=os.getcwd(),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.COMPLETED if finished else JobStatus.FAILED,
    )
    returned.return_value = (
        outcome.objective if finished else LauncherError(f"{cell.name}: {outcome.failure}.")
    )
    return returned
