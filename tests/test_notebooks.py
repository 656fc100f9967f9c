"""The notebooks run at ``scale=tiny``, and are committed with their pictures."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.quick import STARTUP

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TIMEOUT_SECONDS = 300
LARGEST_BYTES = 400_000


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_three() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_at_tiny_scale(
    path: Path, tmp_path: Path, shared_artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "artifacts").mkdir()
    for stage in ("store", "generator", "synthetic"):  # other tests' classifiers are narrow
        (shared_artifacts / stage).mkdir(exist_ok=True)
        (tmp_path / "artifacts" / stage).symlink_to(shared_artifacts / stage)
    monkeypatch.setenv("SVP_SCALE", "tiny")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([os.fspath(STARTUP), os.fspath(FOLDER.parent)])
    )
    monkeypatch.setenv("IPYTHONDIR", os.fspath(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    committed = pictures(notebook)
    client = NotebookClient(
        notebook, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": os.fspath(tmp_path)}}
    )
    client.execute()
    assert pictures(notebook) == committed > 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_clean_and_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "run `make notebooks`"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST_BYTES
    assert not [word for word in ("/home/", "/Users/", "/tmp/", "/work/", "/root/") if word in text]
