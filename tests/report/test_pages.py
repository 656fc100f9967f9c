import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from svp_lightning.errors import SvpError
from svp_lightning.report.figures.sheets import contact_sheet
from svp_lightning.report.html import run_report, study_report
from svp_lightning.report.inputs import read_results
from svp_lightning.report.style import save_figure
from svp_lightning.report.text import score

REPORTS = {"run": run_report, "study": study_report}


class Page(HTMLParser):
    """Table cells by table id, links, tags and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: dict[str, list[tuple[str, str]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.visible: list[str] = []
        self._table, self._value, self._text = "", None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self._table = own.get("id", "")
        if tag == "td" and "data-value" in own:
            self._value, self._text = own["data-value"], ""
        elif tag == "span" and self._value is not None:
            self._text += "|"

    def handle_endtag(self, tag):
        if tag == "td" and self._value is not None:
            shown = self._text.split("|")[0]
            self.cells.setdefault(self._table, []).append((self._value, shown))
            self._value = None

    def handle_data(self, data):
        if self._value is not None:
            self._text += data
        self.visible.append(data)


def page_of(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def run_dir(make_run):
    prevalence = {"protein": 1000, "silicone_oil": 1, "air_bubble": 1}
    folder = make_run(with_predictions=True, change={"prevalence": prevalence})
    tiles = np.full((4, 16, 16), 90, np.uint8)
    sheet = contact_sheet({"Real": tiles, "Generated": tiles}, pixel_size_um=0.5)
    save_figure(sheet, folder / "figures" / "contact_sheet_silicone_oil.png")
    return folder


@pytest.fixture
def study_dir(make_run):
    folder = make_run("control", ratio=0.0, auprc=0.80)
    run_report(make_run("treated", ratio=1.0, auprc=0.81))
    failed = folder.parent / "failed cell"
    failed.mkdir()
    (failed / "config.yaml").write_text("")
    (failed / "command.txt").write_text("python -m svp_lightning seed=9")
    return folder.parent


@pytest.mark.parametrize("kind", ["run", "study"])
def test_pages_need_no_network(kind, request):
    path = REPORTS[kind](request.getfixturevalue(f"{kind}_dir"))
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z0-9]", re.sub(r"base64,[^\"]*", "", text), re.I)
    page = Page(text)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "data"):
            local = value.startswith(("#", "data:")) or (tag == "a" and ":" not in value)
            assert local, (tag, value[:80])
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes
    assert not {"iframe", "object", "embed", "form"} & set(page.tags)


def test_every_number_of_the_metric_tables_is_that_of_the_results(run_dir):
    page = page_of(run_report(run_dir))
    values = json.loads((run_dir / "results.json").read_text())["metrics"]
    per_class = [v for own in values["per_class"].values() for v in own.values()]
    names = ("macro_precision", "macro_recall", "macro_f1", "macro_auprc", "accuracy")
    overall = [values[name] for name in names]
    for table, expected in (("class-metrics", per_class), ("overall-metrics", overall)):
        assert [float(value) for value, _ in page.cells[table]] == expected
        assert [shown for _, shown in page.cells[table]] == [score(v) for v in expected]


def test_run_page_draws_what_is_missing_and_shows_what_is_there(run_dir):
    page = page_of(run_report(run_dir))
    shown = {value for tag, name, value in page.attributes if (tag, name) == ("figure", "id")}
    assert shown == {
        "figure-precision_recall",
        "figure-precision_recall_log",
        "figure-confusion",
        "figure-contact_sheet_silicone_oil",
    }
    images = [v for tag, name, v in page.attributes if (tag, name) == ("img", "alt")]
    assert len(images) == len(shown)
    assert all(images)


def test_an_existing_figure_is_kept(run_dir):
    run_report(run_dir)
    figure = run_dir / "figures" / "confusion.png"
    other = (run_dir / "figures" / "precision_recall.png").read_bytes()
    figure.write_bytes(other)
    run_report(run_dir)
    assert figure.read_bytes() == other


def test_run_page_without_predictions(make_run):
    text = run_report(make_run()).read_text(encoding="utf-8")
    assert "in-use" not in text
    assert "<figure" not in text
    assert "python -m svp_lightning seed=1" in text


@pytest.mark.parametrize("kind", ["run", "study"])
def test_pages_are_deterministic(kind, request, tmp_path):
    report, folder = REPORTS[kind], request.getfixturevalue(f"{kind}_dir")
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    first = report(folder).read_bytes()
    assert report(folder).read_bytes() == first
    assert report(copy).read_bytes() == first


def test_names_are_escaped(make_run):
    names = ("protein", "<script>alert(1)</script>")
    text = run_report(make_run(class_names=names)).read_text(encoding="utf-8")
    assert "<script>alert" not in text.lower()


def test_study_page_lists_runs_links_and_what_is_missing(study_dir):
    page = page_of(study_report(study_dir))
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert "treated/report.html" in links
    assert "control/report.html" not in links  # it has no page
    for link in links:
        if not link.startswith("#"):
            assert (study_dir / link).is_file()
    words = "".join(page.visible)
    assert "failed cell" in words
    assert "seed=9" in words
    assert "1 run has no result" in words


def test_study_page_is_honest_about_one_seed(study_dir):
    words = "".join(page_of(study_report(study_dir)).visible)
    assert "One seed only" in words
    assert "no detectable difference from the control: +1.0 percentage points" in words


def test_glossary_says_which_intervals_cover_seeds(study_dir):
    words = "".join(page_of(study_report(study_dir)).visible)
    assert "That of one seed does not cover another; that of a mean over several seeds" in words


def test_study_table_numbers_are_those_of_the_results(study_dir):
    page = page_of(study_report(study_dir))
    runs = [read_results(study_dir / name) for name in ("control", "treated")]
    shown = {value for value, _ in page.cells["study-table"]}
    for run in runs:
        for metric in ("macro_auprc", "macro_f1", "silicone_oil/recall_at_precision_95"):
            assert str(run.estimate(metric).value) in shown


def test_study_files(study_dir):
    path = study_report(study_dir)
    assert path == study_dir / "report.html"
    assert (study_dir / "table.md").read_text(encoding="utf-8").count("\n") == 4
    assert (study_dir / "table.csv").read_text(encoding="utf-8").count("\n") == 3
    assert (study_dir / "figures" / "augmentation_effect.svg").is_file()
    assert list(study_dir.rglob(".*")) == []


def test_study_without_control_claims_nothing(make_run):
    folder = make_run("only", ratio=1.0)
    words = "".join(page_of(study_report(folder.parent)).visible)
    assert "no control" in words
    assert "percentage points of" not in words


def test_study_of_controls_only(make_run):
    folder = make_run("only", method="none")
    assert "nothing to compare" in "".join(page_of(study_report(folder.parent)).visible)


def test_cells_whose_control_is_missing_are_named(make_run):
    make_run("control", backbone="resnet18", method="none")
    folder = make_run("treated", backbone="resnet50")
    words = "".join(page_of(study_report(folder.parent)).visible)
    assert "Only the control" not in words
    assert "for lack of a control of the same classifier: ResNet-50, diffusion 1×." in words


def test_many_seeds_and_methods(make_run):
    for seed in (1, 2, 3):
        folder = make_run(f"n{seed}", method="none", seed=seed)
        for method in ("diffusion", "duplicate", "class_weights"):
            make_run(f"{method}{seed}", method=method, seed=seed)
    words = "".join(page_of(study_report(folder.parent)).visible)
    assert "One seed only" not in words
    assert "duplicated real images" in words


@pytest.mark.parametrize("report", [run_report, study_report])
def test_one_clear_error_and_nothing_written(report, make_run, tmp_path):
    folder = make_run()
    (folder / "results.json").write_text("{")
    target = folder if report is run_report else folder.parent
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(SvpError, match=r"results\.json"):
        report(target)
    assert sorted(folder.parent.rglob("*")) == before
    with pytest.raises(SvpError, match="no folder"):
        report(tmp_path / "nowhere")
