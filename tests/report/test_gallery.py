"""The gallery of suspect labels, used as a person does, in a real browser."""

from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svp_lightning.data.overrides import with_overrides
from svp_lightning.data.store import Store
from svp_lightning.data.store_writer import StoreWriter
from svp_lightning.evaluation.predictions import Predictions
from svp_lightning.evaluation.reference import Judged
from svp_lightning.report.gallery import SUSPECTS as SHOWN
from svp_lightning.report.gallery import write_gallery, write_suspects
from tests.browser import Page, chromium

NAMES = ("protein", "silicone_oil", "air_bubble")
COUNT, SUSPECTS, SIZE, PIXEL_UM = 1500, 1200, 16, 0.5
HOSTILE = "</script><script>document.title = 'taken over'</script>"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three runs; the first id, and the name of a run, are markup."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"run/{i}, no. {i}" for i in range(COUNT)]})
    table.loc[0, "id"] = HOSTILE
    table["label"] = [NAMES[i % 3] for i in range(COUNT)]
    table["split"], table["origin"] = "train", "real"
    table["group"] = [("vial 1", "vial 2", "<b>vial 3</b>")[i % 3] for i in range(COUNT)]
    table["ecd_um"] = np.linspace(1, 30, COUNT)
    path = tmp_path_factory.mktemp("gallery") / "store"
    writer = StoreWriter(path, COUNT, SIZE)
    writer.write(0, rng.integers(0, 256, (COUNT, SIZE, SIZE), dtype=np.uint8), table)
    writer.finish(NAMES, PIXEL_UM, {})
    return Store.open(path)


@pytest.fixture(scope="module")
def gallery(store: Store) -> Path:
    rows = np.arange(SUSPECTS)
    issues = pd.DataFrame(
        {
            "row": rows,
            "suggested": [NAMES[(i + 1) % 3] for i in rows],
            "score": np.linspace(1, 0, SUSPECTS),
            "reason": [f"It looks odd, said {i}." for i in rows],
        }
    )
    neighbours = rows[:, None] + np.arange(1, 5)
    probability = np.full((SUSPECTS, 3), 1 / 3)
    return write_gallery(store.path.parent / "page.html", store, issues, probability, neighbours)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture
def page(browser: Page, gallery: Path) -> Page:
    browser.open(gallery.as_uri())
    browser.evaluate("localStorage.clear()")
    browser.open(gallery.as_uri())
    return browser


def states(page: Page, count: int) -> list[str]:
    """The decision on each of the first tiles."""
    kinds = "['open', 'keep', 'relabel', 'unsure']"
    tiles = f"[...document.querySelectorAll('.tile')].slice(0, {count})"
    found = page.evaluate(f"{tiles}.map((t) => {kinds}.find((k) => t.classList.contains(k)))")
    return [str(state) for state in found]


def choose(page: Page, control: str, value: object) -> None:
    control = f"document.getElementById('{control}')"
    page.evaluate(f"{control}.value = '{value}'; {control}.dispatchEvent(new Event('change'))")


def counted(page: Page) -> list[int]:
    """Shown, all, selected and decided."""
    words = page.evaluate("document.getElementById('count').textContent").replace(",", "").split()
    return [int(word) for word in words if word.isdigit()]


def difference(page: Page, store: Store, position: int) -> float:
    """Mean difference in grey levels of what a tile shows and the image of its id; JPEG: about 15.

    Other images of this noise differ by 85.
    """
    found = page.evaluate(
        f"(() => {{ const tile = [...document.querySelectorAll('.tile')].at({position});"
        " const style = getComputedStyle(tile.querySelector('.picture'));"
        " return [tile.dataset.id, style.backgroundImage, style.backgroundPosition, style.width]"
        "})()"
    )
    sheet = Image.open(BytesIO(b64decode(found[1].split(",")[1].rstrip('")'))))
    size = float(found[3].removesuffix("px"))
    x, y = (round(-float(part.removesuffix("px")) / size) * SIZE for part in found[2].split())
    shown = np.asarray(sheet.crop((x, y, x + SIZE, y + SIZE)), float)
    row = store.particles["id"].tolist().index(found[0])
    return float(np.abs(shown - store.images[row]).mean())


def middle(page: Page, position: int) -> tuple[float, float]:
    box = f"document.querySelectorAll('.tile')[{position}].getBoundingClientRect()"
    x, y = page.evaluate(f"(() => {{ const b = {box}; return [b.x + 60, b.y + 60]; }})()")
    return x, y


def test_keys_keep_relabel_doubt_and_undo(page: Page) -> None:
    page.press("k", "r", "u", "3")
    assert states(page, 5) == ["keep", "relabel", "unsure", "relabel", "open"]
    said = page.evaluate("[...document.querySelectorAll('.decision')].map((d) => d.textContent)")
    assert said[:4] == ["keep", "→ Air bubble", "unsure", "→ Air bubble"]
    page.press("z", "z")
    assert states(page, 4) == ["keep", "relabel", "open", "open"]
    page.press("ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "1")  # its own label: kept
    assert states(page, 1) == ["keep"]


def test_filters_narrow_what_is_shown(page: Page) -> None:
    assert counted(page) == [SUSPECTS, SUSPECTS, 0, 0]
    choose(page, "given", 1)
    assert counted(page)[0] == SUSPECTS // 3
    choose(page, "suggested", 0)
    assert counted(page)[0] == 0  # oil is taken for air here
    choose(page, "suggested", "")
    choose(page, "score", 0.5)
    assert counted(page)[0] == SUSPECTS // 6
    choose(page, "given", "")
    choose(page, "run", 0)
    choose(page, "largest", 5)
    found = counted(page)[0]
    assert 0 < found < SUSPECTS // 6
    page.press("k")
    choose(page, "state", "open")
    assert counted(page)[0] == found - 1


def test_a_drag_selects_and_one_key_relabels_all(page: Page) -> None:
    start, end = middle(page, 0), middle(page, 3)
    page.drag(start, (start[0] + 20, start[1] + 20), end)
    assert counted(page)[2] == 4
    page.press("2")
    assert states(page, 5) == ["relabel", "keep", "relabel", "relabel", "open"]  # 1 is oil
    assert counted(page)[2:] == [0, 4]
    page.press("z")
    assert counted(page)[3] == 0


def test_progress_survives_a_reload(page: Page, gallery: Path) -> None:
    page.press("k", "u")
    page.evaluate("document.getElementById('who').value = 'Ada'")
    page.press("r")
    page.open(gallery.as_uri())
    assert states(page, 4) == ["keep", "unsure", "relabel", "open"]
    assert page.evaluate("document.getElementById('who').value") == "Ada"


def test_the_saved_csv_changes_labels_and_keeps_the_originals(
    page: Page, store: Store, tmp_path: Path
) -> None:
    page.evaluate("document.getElementById('who').value = 'Ada \"A.\", QC'")
    page.press("r", "k", "u", "1")
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.evaluate("document.getElementById('save').click()")
    file = tmp_path / "label_overrides.csv"
    page.wait_for(file.is_file)
    changed = with_overrides(store, file)
    particles = changed.particles
    assert particles["label"].tolist()[:5] == [NAMES[k] for k in (1, 1, 2, 0, 1)]
    assert particles["label_given"].tolist() == store.particles["label"].tolist()
    assert particles["label_who"].tolist()[:4] == ['Ada "A.", QC', "", "", ""]
    assert particles["label_why"][0] == "It looks odd, said 0."
    assert particles["label_when"][0].startswith("20")


def load(page: Page, file: Path, text: str) -> None:
    file.write_text(text)
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector="#load")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])


@pytest.mark.parametrize(
    ("decided", "expected"),
    [
        ({"decision": ["relabel", "unsure"]}, ["relabel", "open", "unsure"]),
        ({}, ["relabel", "open", "keep"]),  # its own label
    ],
)
def test_a_saved_csv_can_be_loaded_elsewhere(
    page: Page, store: Store, tmp_path: Path, decided: dict[str, list[str]], expected: list[str]
) -> None:
    rows = {
        "id": [*store.particles["id"][[0, 2]]],
        "label": ["air_bubble", "air_bubble"],
        **decided,
    }
    load(page, tmp_path / "given.csv", pd.DataFrame(rows).to_csv(index=False))
    page.wait("document.querySelector('.tile.relabel')")
    assert states(page, 3) == expected


WARNING = "document.getElementById('warning').textContent"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has no column id and no column label"),
        ("name,label\na,protein\n", "it has no column id"),
        ("id;label\na;protein\n", "it has no column id and no column label"),
        ("id,label\nanother,protein\n", "it names no image of this page"),
        ('id,label\n"run/1, no. 1",glass\n', "run/1, no. 1 gets no class of this page"),
        ('id,label,decision\n"run/1, no. 1",protein,yes\n', "run/1, no. 1: yes is no decision"),
    ],
)
def test_a_csv_that_is_none_of_decisions_is_refused(
    page: Page, tmp_path: Path, text: str, problem: str
) -> None:
    load(page, tmp_path / "given.csv", text)
    page.wait(WARNING)
    assert page.evaluate(WARNING) == f"given.csv is not loaded: {problem}."
    assert counted(page)[3] == 0


def test_a_narrow_window_shows_all(page: Page) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=1,
              mobile=False)  # fmt: skip
    try:
        assert page.evaluate("document.querySelector('header').offsetHeight") <= 0.4 * 640
        page.press("Enter")
        for part in ("#large", ".seen .picture", ".facts"):
            box = f"document.querySelector('{part}').getBoundingClientRect()"
            assert 0 <= page.evaluate(f"{box}.left") < page.evaluate(f"{box}.right") <= 360
        assert page.evaluate("document.getElementById('large').scrollWidth") <= 360
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_only_visible_rows_are_drawn(page: Page, store: Store) -> None:
    assert page.evaluate("document.querySelectorAll('.tile').length") < 150
    decoded = "document.adoptedStyleSheets[0].cssRules.length"
    assert page.evaluate(decoded) <= 3  # sheets of 64
    page.evaluate("document.getElementById('scroller').scrollTop = 1e9")
    page.wait("document.querySelector('#grid .tile:last-of-type, .tile') !== null")
    last = store.particles["id"][SUSPECTS - 1]
    page.wait(f"[...document.querySelectorAll('.tile')].some((t) => t.dataset.id === '{last}')")
    assert page.evaluate("document.querySelectorAll('.tile').length") < 150
    assert page.evaluate(decoded) <= 6
    assert difference(page, store, -1) < 40


def test_the_large_view_shows_scale_reason_and_neighbours(page: Page) -> None:
    page.press("ArrowRight", "Enter")
    words = page.evaluate("document.getElementById('content').textContent")
    assert "It looks odd, said 1." in words
    assert "vial 2" in words
    # At most 0.35 of the 8 µm shown; 448 px show 16 px of 0.5 µm.
    bar = "document.querySelector('.bar')"
    assert page.evaluate(f"{bar}.textContent") == "2 µm"
    assert page.evaluate(f"{bar}.getBoundingClientRect().width") == pytest.approx(112, abs=1)
    captions = "[...document.querySelectorAll('figcaption')].map((c) => c.textContent)"
    assert page.evaluate(captions) == ["Air bubble", "Protein", "Silicone oil", "Air bubble"]
    page.press("u")
    assert states(page, 2) == ["open", "unsure"]
    page.press("Escape")
    assert not page.evaluate("document.getElementById('large').open")


def test_unfamiliar_particles_and_then_the_least_certain_come_first(
    browser: Page, store: Store, tmp_path: Path
) -> None:
    probability = np.tile([0.98, 0.015, 0.005], (COUNT, 1))
    probability[77], probability[5] = (0.1, 0.41, 0.49), (0.2, 0.7, 0.1)
    ids = store.particles["id"].to_numpy(dtype=object)
    unlabelled = store.changed({"label": None}, {})
    found = Predictions(ids, np.full(COUNT, -1), probability, NAMES, {})
    familiarity = np.full(COUNT, 0.5)
    familiarity[[9, 30]] = 0.01, 0.001
    judged = Judged(found, probability > 0.4, familiarity < 0.02, familiarity)
    page = write_suspects(tmp_path / "page.html", unlabelled, judged)
    assert page is not None
    browser.open(page.as_uri())
    tiles = browser.evaluate(
        "[...document.querySelectorAll('.tile')].slice(0, 4).map((tile) =>"
        " [tile.dataset.id, ...[...tile.children].slice(1).map((part) => part.textContent)])"
    )
    assert tiles == [
        [ids[30], "Protein", "Unfamiliar? 1.00", ""],
        [ids[9], "Protein", "Unfamiliar? 0.99", ""],
        [ids[77], "Air bubble", "Silicone oil? 0.51", ""],
        [ids[5], "Silicone oil", "Protein? 0.30", ""],
    ]
    assert counted(browser)[0] == SHOWN
    for position in range(4):
        assert difference(browser, store, position) < 40
    browser.press("Enter")
    large = browser.evaluate("document.getElementById('content').textContent")
    assert "0.10% are as strange" in large
    assert "Nearest" not in large


def test_names_of_images_and_runs_are_only_text(page: Page) -> None:
    assert page.evaluate("document.title") == f"{SUSPECTS:,} labels, the most suspect first"
    page.press("Enter")
    assert page.evaluate("document.querySelector('#content h2').textContent") == HOSTILE
    assert page.evaluate("document.querySelector('#content b')") is None
    options = page.evaluate("[...document.getElementById('run').options].map((o) => o.text)")
    assert "<b>vial 3</b>" in options
