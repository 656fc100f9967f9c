"""What can happen to a run: to its process, its disk, its clock and its files."""

import fcntl
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DISK = "200m"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "flipped": lambda content: (
        content[: (k := len(content) // 2)] + bytes([content[k] ^ 1]) + content[k + 1 :]
    ),
    "emptied": lambda _: b"",
}


def end() -> None:
    """SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def damage(file: Path, kind: str) -> None:
    """Change a file and nothing that it is linked with."""
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(DAMAGES[kind](content))


def fill(left: int) -> None:
    """Write until the disk of this folder is full, and give back ``left`` bytes."""
    with open("ballast", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    os.truncate("ballast", max(0, os.path.getsize("ballast") - left))


@contextmanager
def small_disk(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=root))
    with mounted(folder, f"size={DISK}"):
        yield folder


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def without_locks(number: int) -> None:
    """In this process, files cannot be locked: the error of that number."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    fcntl.flock = refuse


def jumping_clock(draw: random.Random) -> None:
    """In this process, ``time.time`` jumps by up to three days every now and then."""
    clock, shift = time.time_ns, [0]

    def jumped() -> int:
        if draw.random() < 0.05:
            shift[0] = draw.randint(-3 * 86400, 3 * 86400) * 10**9
        return clock() + shift[0]

    time.time_ns = jumped
    time.time = lambda: jumped() / 1e9


def move_times(draw: random.Random, folder: Path) -> None:
    """Give all files below a folder times of up to three days before or after now."""
    for file in folder.rglob("*"):
        at = time.time() + draw.uniform(-3, 3) * 86400
        os.utime(file, (at, at))
