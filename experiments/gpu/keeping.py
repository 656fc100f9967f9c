"""What comes out of the study on a GPU: few files, none of them large."""

from pathlib import Path

from svp_lightning.errors import SvpError

PART_BYTES = 15 << 20
"""Of the parts that larger files are cut into."""
MAX_FILES, MAX_BYTES = 8, 16 << 20
"""Of what comes out."""


def not_kept(folder: str, names: list[str]) -> set[str]:
    """Of a run: classifier, predictions, pages, and figures unless it is the first repetition."""
    if (run := Path(folder).name) == "gpu":
        return set()
    suffixes = (".ckpt", ".parquet", ".safetensors", ".html", ".svg")
    repeated = () if "_seed1_" in run else ("figures",)
    return {name for name in names if name.endswith(suffixes) or name in repeated}


def hand_out(file: Path, out: Path) -> None:
    """Copy a file, a large one in parts ``NAME.0``, ``NAME.1``, in place of an earlier call's."""
    for old in out.glob(f"{file.name}*"):
        old.unlink()
    content = file.read_bytes()
    parts = range(0, len(content), PART_BYTES)
    for number, start in enumerate(parts):
        name = f"{file.name}.{number}" if len(parts) > 1 else file.name
        (out / name).write_bytes(content[start : start + PART_BYTES])


def refuse_excess(out: Path) -> None:
    """Refuse more or larger files than may come out.

    Raises:
        SvpError: saying how many, and how large.
    """
    sizes = [file.stat().st_size for file in out.iterdir()]
    if len(sizes) > MAX_FILES or max(sizes) > MAX_BYTES:
        raise SvpError(
            f"{out} has {len(sizes)} files of up to {max(sizes) / 2**20:.1f} MiB; at most "
            f"{MAX_FILES} of {MAX_BYTES >> 20} MiB come out.",
            "Train fewer seeds, or take what is there by other means.",
        )
