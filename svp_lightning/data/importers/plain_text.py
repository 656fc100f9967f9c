"""Text files from people and instruments: whether a file is text, its encoding, its lines."""

import codecs
import contextlib
import re
from pathlib import Path

from svp_lightning.errors import DataError

_HEAD_BYTES = 1 << 16
_SEPARATORS = ",;\t|"
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, head: bool = False) -> str:
    """The text of ``path``, in UTF-8, UTF-16 (also without its byte order mark) or Latin-1.

    Args:
        path: the file.
        head: give the first lines only, and "" where the file is empty or no text.

    Raises:
        DataError: the file is missing, may not be read, is empty, or no text.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_HEAD_BYTES if head else -1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}).",
            "Check the path and the permissions; a file that is not needed can be moved away.",
        ) from error
    text = _decoded(raw, final=not head or len(raw) < _HEAD_BYTES)
    if text is None:
        problem = "is damaged: its end is missing, or it is of several encodings"
    elif not text.strip("\0 \t\r\n\ufeff"):
        problem = "is empty"
    elif "\0" in text:
        problem = "holds NUL characters: it is no text"
    else:
        return text
    if head:
        return ""
    raise DataError(f"{path} {problem}.", "Export or copy it again.")


def _decoded(raw: bytes, final: bool) -> str | None:
    """The text in the first encoding that fits; a character may be cut off unless ``final``."""
    known = [encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)]
    head = raw[:_HEAD_BYTES]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # Western text in UTF-16 has a zero in nearly every second byte.
        if head[first::2].count(0) > 0.4 * len(head) > 10 * head[1 - first :: 2].count(0):
            known.append(encoding)
    for encoding in known[:1] or ("utf-8", "latin-1"):
        with contextlib.suppress(UnicodeDecodeError):
            return codecs.getincrementaldecoder(encoding)().decode(raw, final)
    return None


def lines_of(text: str) -> list[str]:
    """Lines ended by CR, LF or both, and by nothing else (Latin-1 has other 'line ends')."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def layout_of(lines: list[str], header_holds: str = "") -> tuple[int, str]:
    """Index of a table's header line (or of blank ones before it), and the separator."""
    stated = re.fullmatch(r"""\s*"?sep=([^\w\s"]|\t)"?\s*""", lines[0], re.IGNORECASE)
    found = (k for k, line in enumerate(lines) if header_holds in line)
    first = max(next(found, 0), 1 if stated else 0)
    header = next((line for line in lines[first:] if line.strip()), "")
    return first, stated[1] if stated else max(_SEPARATORS, key=header.count)
