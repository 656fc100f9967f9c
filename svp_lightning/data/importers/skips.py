"""What an import leaves out: the first problem ends it, or all of them are listed."""

from typing import Literal

import pandas as pd

from svp_lightning.errors import DataError

Policy = Literal["refuse", "skip"]


class Skips:
    """Collects what is left out.

    Args:
        policy: ``refuse`` raises the first problem, ``skip`` lists it and goes on.
    """

    def __init__(self, policy: Policy = "refuse") -> None:
        self.policy = policy
        self._rows: list[tuple[str, str]] = []

    def add(self, what: str, reason: str, error: DataError) -> None:
        """Leave ``what`` (a file, row or particle) out.

        Args:
            what: named as in the summary's list.
            reason: one of few, by which the summary counts.
            error: raised where the policy is to refuse.
        """
        if self.policy == "refuse":
            raise error
        self.note(what, reason)

    def note(self, what: str, reason: str) -> None:
        """List ``what`` as left out, whatever the policy: nothing is wrong with that."""
        self._rows.append((what, reason))

    def table(self) -> pd.DataFrame:
        """Columns ``file``, ``reason``."""
        return pd.DataFrame(self._rows, columns=["file", "reason"])
