"""``task=verify``: whether the audit trail and the results that it names are as they were."""

from svp_lightning.errors import ArtifactError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say
from svp_lightning.runtime.trail import TRAIL, changed_files, verify


def run(pipeline: Pipeline) -> None:
    """Print the number of lines and the last hash.

    Raises:
        ArtifactError: a line was changed, removed, inserted or moved, or a result has changed.
    """
    outputs = pipeline.config.paths.outputs
    lines = verify(outputs)
    changed, gone = changed_files(outputs, lines)
    say(f"{outputs / TRAIL}: {len(lines):,} lines, unbroken. Last hash: {lines[-1]['hash']}")
    if gone:
        say(f"Recorded files that are no longer there: {len(gone):,}, the first {gone[0]}")
    if changed:
        raise ArtifactError(
            f"Results that have changed since they were recorded: {len(changed):,}, the first "
            f"{outputs / changed[0]}.",
            "Restore them from a backup, or delete their folders and run the commands again.",
        )
