"""Named failures: what was given, what was expected, what to do about it.

Every error a user can cause derives from :class:`SvpError`, or is one of :data:`PATH_ERRORS`; the
command line prints its message as one line and exits with status 1
(:func:`mistakes_in_one_line`). Anything else that escapes is our bug and keeps its traceback.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PATH_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG}
"""Numbers of errors that a user can correct: permissions, a path below a file, a long name."""


class SvpError(Exception):
    """A failure with a cause the user can fix.

    Args:
        what: what was wrong and where (file, row, setting), with the offending value.
        remedy: what to do about it, as an imperative sentence.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what} {remedy}".strip())

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # Exceptions travel between processes by pickle, which replays ``args``.
        return type(self), (self.what, self.remedy)


class SettingsError(SvpError):
    """A setting has an unknown name or an impossible value."""


class DataError(SvpError):
    """Input data (a folder, an image, a table) is missing, broken or insufficient."""


class StoreError(SvpError):
    """A store does not hold what its manifest says, or has the wrong shape or classes."""


class ArtifactError(SvpError):
    """A stage output is corrupt, foreign, or cannot be written."""


class CheckpointError(SvpError):
    """A checkpoint cannot be used with this data or these settings."""


class TrainingError(SvpError):
    """Training cannot continue (for example a loss that is not a number)."""


class DistributedError(SvpError):
    """The process layout does not fit the job."""


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """What the user can correct ends the program with one line and status 1."""
    try:
        yield
    except SvpError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in PATH_ERRORS or error.filename is None:
            raise
        message = (
            f"{error.filename} cannot be used ({error.strerror}). Check the path, its permissions "
            "and the length of its names."
        )
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for it
            raise
        message = (
            f"The memory of the device does not suffice ({str(error).split('. ')[0]}). Close what "
            "else uses it, send a training batch in parts (trainer.accumulate=2), or draw and test "
            "fewer images at once (sampler.batch_size, evaluation.batch_size)."
        )
    else:
        return
    print(f"\nError: {message}", file=sys.stderr, flush=True)
    sys.exit(1)
