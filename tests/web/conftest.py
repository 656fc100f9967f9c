"""The application with a stand-in for ``task=predict`` that takes no time."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `web` is not installed")

from starlette.testclient import TestClient

from svp_lightning.runtime.settings import SEE_ALL
from svp_lightning.stages.run_folder import CLASSIFIER
from svp_lightning.web.application import application
from tests.configured import changed, tiny

ORIGIN = "http://127.0.0.1:8000"
PREDICT = """
import sys, time
from pathlib import Path
given = dict(word.split("=", 1) for word in sys.argv[1:])
root = Path(given["data.root"].strip("'"))
names = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
print("Importing         :  40%|####      | 2/5", file=sys.stderr, flush=True)
if "wait.png" in names:
    time.sleep(60)
if "broken.png" in names:
    give = "data.volume_ml=9: give \\"data.volume_ml='v 1 = 0.5'\\". " + SEE_ALL
    sys.exit(f"Error: {root / 'broken.png'} is no image. {give}")
out = Path(__file__).parent / "results"
out.mkdir(exist_ok=True)
header = ["run", "min_size_um", "class", "count", "count_low", "count_high"]
rows = [["all runs", "0", name, str(len(names)), "0", "9"] for name in ("protein", "all")]
lines = [",".join([*header, "per_ml", "per_ml_low", "per_ml_high"])]
lines += [",".join([*row, "", "", ""]) for row in rows]
(out / "counts.csv").write_text("\\n".join(lines))
(out / "report.html").write_text("<script>1</script>")
(out / "secret.txt").write_text("not shown")
print("Warning: <b>the lamp</b> differs.", *names, sys.argv, sep="\\n")
print(f"Report: {out / 'report.html'}")
"""


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """Call ``serve(max_files=3)`` for a client of the page with these settings."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    script = tmp_path / "predict.py"
    script.write_text(f"SEE_ALL = {SEE_ALL!r}\n{PREDICT}")
    run = tmp_path / "outputs" / "study" / "run"
    run.mkdir(parents=True)
    for name in (CLASSIFIER, "checksums.json", "results.json"):
        (run / name).write_text("{}")
    opened = ExitStack()

    def start(**settings: Any) -> TestClient:
        serve = changed(tiny().serve, settings)
        app = application(serve, [sys.executable, str(script)], tmp_path / "outputs")
        client = TestClient(app, base_url=ORIGIN, headers={"Origin": ORIGIN})
        return opened.enter_context(client)

    with opened:
        yield start
    assert not list((tmp_path / "temporary").iterdir()), "uploads are removed at the end"
