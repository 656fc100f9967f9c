"""The time of the study on a GPU: what is left of it, and how many steps of a training fit."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svp_lightning.runtime.files import write_json
from svp_lightning.runtime.terminal import duration, say

SHARES = {"images": 0.08, "generator": 0.35, "pool": 0.05, "classifiers": 0.46, "report": 0.06}
"""Of all minutes, phase by phase; what a phase leaves over goes to the classifiers."""
WARM_UP, MEASURED = 0.01, 0.02
"""Shares of the generator's steps: before its speed is measured, and until it is known."""


@dataclass
class Clock:
    """The time of all calls together, of which a file keeps what earlier ones took.

    Attributes:
        file: also keeps the number of the generator's steps and the seconds of each phase.
        total: seconds of all calls.
        call: seconds of this call.
    """

    file: Path
    total: float
    call: float
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        if self.file.is_file():
            self.facts = json.loads(self.file.read_text(encoding="utf-8"))
        self.before = self.facts.get("seconds", 0.0)

    @property
    def spent(self) -> float:
        """Seconds of all calls so far."""
        return float(self.before + time.monotonic() - self.start)

    @property
    def left(self) -> float:
        """Seconds that this call may still take."""
        return min(self.total - self.spent, self.call - (time.monotonic() - self.start))

    def until(self, phase: str) -> float:
        """Seconds from now to the planned end of a phase, or to the report of this call."""
        names = list(SHARES)
        end = sum(SHARES[name] for name in names[: names.index(phase) + 1]) * self.total
        return min(end - self.spent, self.left - SHARES["report"] * self.total)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announce a phase and keep how long it took, all calls together."""
        say(f"{name}: {duration(max(0.0, self.until(name)))} planned")
        start = time.monotonic()
        try:
            yield
        finally:
            took = self.facts.get("phases", {}).get(name, 0.0) + time.monotonic() - start
            self.note(phases=self.facts.get("phases", {}) | {name: round(took, 1)})

    def note(self, **facts: Any) -> None:
        """Keep facts, and the time spent so far."""
        self.facts |= {**facts, "seconds": round(self.spent, 1)}
        write_json(self.file, self.facts)


class DoesNotFitError(Exception):
    """A training does not fit; a new one of ``steps`` does, or none where that is not positive."""

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.steps = steps


def pace(seconds: Callable[[], float], call: Callable[[], float]) -> Any:
    """A callback that measures a training's speed, and ends one that takes too long.

    A training that resumes was judged when it began. A shorter one starts anew, as its learning
    rate falls faster, and takes as long to start (to build, to compile) as the one that is ended.

    Args:
        seconds: left for the training.
        call: left in this call; a training that it ends is resumed by the next.
    """
    import torch
    from pytorch_lightning.callbacks import Callback

    made = time.monotonic()

    class Pace(Callback):
        def on_train_start(self, trainer: Any, *_: Any) -> None:
            self.first = max(1, int(WARM_UP * trainer.max_steps))
            self.last = self.first + max(1, int(MEASURED * trainer.max_steps))
            if trainer.global_step:
                self.first = self.last = 0

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            step = trainer.global_step
            trainer.should_stop = trainer.should_stop or call() < 0
            if step in (self.first, self.last) and torch.cuda.is_available():
                torch.cuda.synchronize()
            if step == self.first:
                self.start = time.monotonic()
            elif step == self.last:
                rate = (self.last - self.first) / (time.monotonic() - self.start)
                say(f"  {rate:.1f} steps/s")
                if step + rate * seconds() < trainer.max_steps:
                    raise DoesNotFitError(int(0.9 * rate * (seconds() - (self.start - made))))

    return Pace()
