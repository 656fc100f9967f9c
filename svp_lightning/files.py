"""Writing files whole or not at all, and hashing them."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svp_lightning.errors import ArtifactError

HASH_BLOCK_BYTES = 1 << 22


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` and move it into place when the block succeeds.

    Readers see the old file or the new one, never a part. The temporary name keeps the
    suffix, since writers such as :func:`numpy.save` choose a format by it.

    Raises:
        ArtifactError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with explaining_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def explaining_write_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission while writing ``path`` into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(
                f"No space left on the disk while writing {path}.",
                "Free some space, or point paths.artifacts and paths.outputs at a larger disk; "
                "the same command then goes on where it stopped.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ArtifactError(
                f"{path} cannot be written ({error.strerror}).",
                "Check the permissions of the folder, or set paths.artifacts and paths.outputs.",
            ) from error
        raise


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in blocks (flat memory)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(values: Any) -> str:
    """SHA-256 of plain JSON values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
