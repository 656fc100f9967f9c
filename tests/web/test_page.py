"""The page, used as a person does, in a real browser, with the real ``task=predict``."""

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from svp_lightning.classifier.module import ClassifierModule
from svp_lightning.stages.run_folder import CLASSIFIER
from svp_lightning.web.application import application
from tests import configured
from tests.browser import Page, chromium
from tests.conftest import clean_environment

NAMES, SIZE = ("protein", "silicone_oil", "air_bubble"), 16
COUNT = 7


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser that shows the page of a server of its own, which offers one classifier."""
    folder = tmp_path_factory.mktemp("page")
    run = folder / "study" / "quarter"
    run.mkdir(parents=True)
    module = ClassifierModule(configured.classifier(backbone="resnet18_quarter"), NAMES, SIZE)
    saved = {"hyper_parameters": dict(module.hparams), "state_dict": module.state_dict()}
    torch.save(saved, run / CLASSIFIER)
    outputs = folder / "outputs"
    predict = [sys.executable, "-m", "svp_lightning", "task=predict", "trainer=cpu"]
    predict.append(f"paths.outputs={outputs}")
    app = application(configured.tiny().serve, predict, outputs, preferred=run)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    with pytest.MonkeyPatch.context() as patch, chromium(folder / "profile") as browser:
        for name, value in clean_environment().items():
            patch.setenv(name, value)
        thread.start()
        browser.open(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        yield browser
        server.should_exit = True
        thread.join()


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector('{selector}').innerText"))


def test_dropped_images_are_counted_by_class(page: Page, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        file = tmp_path / "vial 1" / "more" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(150, 200, (20, 20), dtype=np.uint8)).save(file)
    (tmp_path / "vial 1" / "notes.docx").write_text("not sent")
    page.drop("#drop", tmp_path / "vial 1")
    page.wait("document.activeElement.id === 'start'")
    assert f"{COUNT} files" in text(page, "#chosen")
    page.press("Enter")
    page.wait("!document.getElementById('working').hidden")
    page.wait("document.querySelector('#result table')", seconds=300)  # a process that loads torch
    rows = page.evaluate(
        "[...document.querySelectorAll('#result tbody tr')].map((row) =>"
        " [row.cells[0].innerText, row.cells[1].firstChild.textContent])"
    )
    counts = {name: int(count) for name, count in rows}
    assert {"Protein", "Silicone oil", "Air bubble", "All"} < set(counts)
    assert counts.pop("All") == sum(counts.values()) == COUNT
    assert "Images of one particle each, classified by study/quarter" in text(page, "#result")
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.evaluate("document.querySelector('#result a[href$=\"predictions.csv\"]').click()")
    page.wait_for((tmp_path / "predictions.csv").is_file)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == COUNT + 1
    page.open(page.evaluate("location.href"))  # a reload shows the result again
    page.wait("document.querySelector('#result table')")


def test_a_file_that_is_no_picture_ends_in_a_sentence_that_names_it(
    page: Page, tmp_path: Path
) -> None:
    (tmp_path / "holiday.png").write_bytes(b"no picture")
    page.drop("#drop", tmp_path / "holiday.png")
    page.wait("document.activeElement.id === 'start'")
    page.press("Enter")
    page.wait("!document.getElementById('error').hidden", seconds=300)
    said = text(page, "#error")
    assert "holiday.png" in said
    assert len(said.splitlines()) == 1
    assert not page.evaluate("document.querySelector('#result table')")
