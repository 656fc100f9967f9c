"""A batch of cells: started, watched, shown while they run, and reported."""

import json
import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobRuntime, JobStatus
from omegaconf import DictConfig

from hydra_plugins.svp_process_launcher import _processes
from hydra_plugins.svp_process_launcher._cells import (
    Cell,
    LauncherError,
    cell_environment,
    device_groups,
    plan_cells,
    refuse_inside_distributed_job,
    visible_devices,
)
from svp_lightning.runtime.terminal import duration

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAIL_BYTES = 65_536
_REFRESH_SECONDS = 1.0


def launch(
    config: DictConfig,
    foresee: Callable[[Sequence[tuple[str, list[str]]], int], None],
    job_overrides: Sequence[Sequence[str]],
    done_before: int,
    *,
    parallel: int,
    devices: list[int] | None,
    dry_run: bool,
    stop_on_failure: bool,
) -> list[JobReturn]:
    """See :meth:`.launcher.ProcessLauncher.launch`, and its settings."""
    refuse_inside_distributed_job(os.environ)
    if parallel < 1:
        raise LauncherError(
            f"hydra.launcher.parallel={parallel} starts no cell.", "Give 1 or more."
        )
    cells = plan_cells(job_overrides, config.hydra.overrides.hydra, done_before)
    if dry_run:
        for cell in cells:
            print(f"# {cell.name}\n{shlex.join(cell.command)}")
        foresee([(cell.name, cell.overrides) for cell in cells], parallel)
        raise SystemExit(0)
    groups = device_groups(devices, parallel, visible_devices(os.environ, Path("/dev")))
    _processes.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="sweep_") as results:
        logs = Path(config.hydra.sweep.dir) / "logs"
        sweep = _Sweep(cells, parallel, groups, stop_on_failure, logs, Path(results))
        with _processes.stop_signals() as received:
            sweep.run(received)
    failed = _summarise(cells)
    if received:
        raise SystemExit(128 + received[0])
    # Other sweepers judge failed cells themselves; this one would add a traceback.
    if failed and config.hydra.sweeper.get("_target_") == _BASIC_SWEEPER:
        raise SystemExit(1)
    return [_job_return(cell) for cell in cells]


class _Sweep:
    """One batch of cells on this machine, ``parallel`` at a time, each in a numbered slot."""

    def __init__(
        self,
        cells: Sequence[Cell],
        parallel: int,
        groups: Sequence[str],
        stop_on_failure: bool,
        logs: Path,
        results: Path,
    ) -> None:
        self.parallel, self.groups, self.stop_on_failure = parallel, groups, stop_on_failure
        self.logs, self.results = logs, results
        self.waiting = list(cells)
        self.running: dict[int, Cell] = {}
        self.ended: list[Cell] = []
        self.environment = cell_environment(os.environ, parallel)
        self.environment["SVP_SWEEP_MEMORY"] = str(results)
        self.live: Any = None
        self.next_refresh = 0.0
        if parallel > 1 and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False)
            self.live = Live(console=console, auto_refresh=False, transient=True)

    def run(self, received: list[int]) -> None:
        """Run all cells, or until a signal; no process of theirs is left afterwards."""
        with self.live or nullcontext():
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
        if self.stop_on_failure and any(cell.failure for cell in self.ended):
            self.waiting.clear()
        for slot in range(self.parallel):
            if slot not in self.running and self.waiting:
                self.running[slot] = self.waiting.pop(0)
                self._start(self.running[slot], slot)

    def _start(self, cell: Cell, slot: int) -> None:
        environment = self.environment | {
            "SVP_SWEEP_CELL": cell.number,
            "SVP_CELL_RESULT": str(self._result(cell)),
        }
        if self.groups:
            environment["CUDA_VISIBLE_DEVICES"] = self.groups[slot % len(self.groups)]
        if self.parallel > 1:
            self.logs.mkdir(parents=True, exist_ok=True)
            cell.log = self.logs / f"{int(cell.number.split('/')[0]):03d}.log"
            with cell.log.open("a") as file:  # earlier starts of the cell stay in it
                file.write(f"$ {shlex.join(cell.command)}\n")
                cell.log_start = file.tell()
        self._say(cell.name + (f" started, log: {cell.log}" if cell.log else ""))
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
        self._say(said)

    def _say(self, text: str) -> None:
        """Print now, above the table of running cells."""
        if self.live is None:
            print(text, flush=True)
        else:
            self.live.console.print(text, markup=False, soft_wrap=True)

    def _show(self) -> None:
        """Redraw the table of the running cells, at most once a second."""
        if self.live is None or time.monotonic() < self.next_refresh:
            return
        self.next_refresh = time.monotonic() + _REFRESH_SECONDS
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for title in ("running cell", "for", "last line"):
            table.add_column(title, no_wrap=True, overflow="ellipsis")
        for cell in self.running.values():
            last = log_tail(cell.log, cell.log_start, lines=1) if cell.log else ""
            runs_for = duration(time.monotonic() - cell.started)
            table.add_row(escape(cell.name), runs_for, escape(last))
        failures = sum(cell.failure is not None for cell in self.ended)
        counts = f"{len(self.ended) - failures} finished, {failures} failed, "
        counts += f"{len(self.running)} running, {len(self.waiting)} waiting"
        self.live.update(Group(table, counts), refresh=True)

    def _result(self, cell: Cell) -> Path:
        return self.results / f"{cell.number.replace('/', '_of_')}.json"


def log_tail(log: Path, start: int, lines: int = 15) -> str:
    """The last meaningful lines of a log from byte ``start`` on, at most so many.

    Without blank ones and colours; of a progress bar only its last state.
    """
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(start, size - _TAIL_BYTES))
        text = _ESCAPES.sub("", file.read().decode(errors="replace"))
    drawn = (line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n"))
    meaningful = [line for line in drawn if line and "HYDRA_FULL_ERROR" not in line]
    return "\n".join(meaningful[-lines:])


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
    error = LauncherError(f"{cell.name}: {cell.failure}.") if cell.failure else None
    returned.return_value = error or cell.objective
    return returned
