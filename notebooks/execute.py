"""Execute the notebooks here and keep their pictures: ``python notebooks/execute.py [NAME…]``.

They run in the current folder, so artifacts and outputs of earlier runs are used. A notebook
whose output names a folder of this machine, or that grows large, is not written.
"""

import base64
import sys
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 3600
LARGEST_BYTES = 400_000
COLOURS = 128
"""Of a picture; grey images and a few lines need no more, and take a third of the space."""


def execute(path: Path) -> None:
    """Run ``path`` and write it back with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=TIMEOUT_SECONDS, record_timing=False).execute()
    _shrink_pictures(notebook)
    text = nbformat.writes(notebook)
    for private in {str(Path.cwd()), str(Path.home()), str(FOLDER), sys.prefix}:
        if private != "/" and private in text:
            raise SystemExit(f"{path.name} shows {private}")
    if len(text) > LARGEST_BYTES:
        raise SystemExit(f"{path.name} would have {len(text):,} bytes")
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {len(text):,} bytes")


def _shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    data = [o.get("data", {}) for cell in notebook.cells for o in cell.get("outputs", [])]
    for held in (d for d in data if "image/png" in d):
        picture = Image.open(BytesIO(base64.b64decode(held["image/png"]))).convert("RGB")
        small = BytesIO()
        picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE).save(
            small, "PNG", optimize=True
        )
        held["image/png"] = base64.b64encode(small.getvalue()).decode()


if __name__ == "__main__":
    wanted = sys.argv[1:] or sorted(path.name for path in FOLDER.glob("*.ipynb"))
    for name in wanted:
        execute(FOLDER / name)
