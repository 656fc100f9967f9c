"""What the page's server takes, refuses and answers."""

import io
import json
import time
import zipfile
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from svp_lightning.stages.run_folder import CLASSIFIER
from svp_lightning.web import desk
from tests.configured import tiny
from tests.web.conftest import ORIGIN

Serve = Callable[..., TestClient]
EMPTY = ("volume_ml", "dilution", "pixel_size_um", "container_ml", "blank")
USUAL = {"classifier": "study/run", "kind": "auto", "skip_unreadable": False}
USUAL |= dict.fromkeys(EMPTY)
"""What the page asks for where nothing is chosen."""


def png(width: int = 4, height: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, format="png")
    return buffer.getvalue()


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def send(client: TestClient, files: dict[str, bytes], **asked: Any) -> dict[str, Any]:
    """Upload and classify; the job, or ``{"error": …}`` of the first call that is refused."""
    upload = client.post("/uploads").json()["id"]
    for name, content in files.items():
        answer = client.put(f"/uploads/{upload}", params={"path": name}, content=content)
        if answer.status_code != 200:
            return dict(answer.json())
    return dict(client.post("/job", json={"upload": upload, **USUAL, **asked}).json())


def ended(client: TestClient) -> dict[str, Any]:
    for _ in range(600):
        job = dict(client.get("/job").json())
        if job["state"] != "running":
            return job
        time.sleep(0.02)
    raise AssertionError("it does not end")


def test_an_upload_is_classified_shown_and_removed(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    (place,) = (tmp_path / "temporary").iterdir()
    page = client.get("/").text
    assert "<option>study/run</option>" in page
    assert "http" not in page.replace(ORIGIN, "")  # nothing of another server
    files = {"run 1/a.png": png(), "run 1/b.PNG": png(), "notes.docx": b"", ".hidden/c.png": png()}
    started = send(client, {**files, "more.zip": zipped(**{"d.png": png(), "e/f.tif": png()})},
                   volume_ml="it's 1, 2 = 0.25, b = 1", dilution=2, container_ml=1,
                   blank="it's 1, 2")  # fmt: skip
    assert started["state"] == "running"
    job = ended(client)
    assert (job["state"], job["error"]) == ("done", "")
    # Kept below one folder; loose files of an archive in one of its name.
    for name in ("run 1/a.png", "run 1/b.PNG", "more/d.png", "more/e/f.tif"):
        assert f"\n{name}\n" in job["html"]
    assert "classified by study/run, counted without the blank it&#39;s 1, 2." in job["html"]
    assert "notes" not in job["html"]
    assert "c.png" not in job["html"]
    assert "data=folder" in job["html"]
    words = unescape(job["html"])
    for word in (
        r"data.volume_ml='it\'s 1, 2 = 0.25, b = 1'",
        "data.dilution=2.0",
        "predict.container_ml=1.0",
        r"predict.blank='it\'s 1, 2'",
    ):
        assert repr(word) in words
    assert f"predict.run=&#39;{tmp_path / 'outputs/study/run'}&#39;" in job["html"]
    assert "&lt;b&gt;the lamp&lt;/b&gt;" in job["html"]
    assert ">4<span" in job["html"]  # files counted as protein
    result = f"/results/{job['id']}"
    assert client.get(f"{result}/counts.csv").headers["content-disposition"].startswith("attach")
    report = client.get(f"{result}/report.html")
    assert "frame-ancestors 'self'" in report.headers["content-security-policy"]
    assert "connect-src" not in report.headers["content-security-policy"]
    for hostile in ("secret.txt", "..%2F..%2Foutputs", "%2Fetc%2Fpasswd"):
        assert client.get(f"{result}/{hostile}").status_code == 404
    assert not list(place.iterdir())


def test_the_page_gives_no_environment_variable_away(serve: Serve, tmp_path: Path) -> None:
    name = "${oc.env:HOME}"
    (tmp_path / "outputs/study/run").rename(tmp_path / "outputs/study" / name)
    client = serve()
    assert send(client, {f"{name}/a.png": png()}, blank=name, classifier=f"study/{name}")["id"]
    words = unescape(ended(client)["html"])
    assert repr(rf"predict.blank='\{name}'") in words
    assert rf"predict.run='{tmp_path}/outputs/study/\\{name}'" in words


def test_a_job_can_be_watched_and_cancelled_and_is_the_only_one(serve: Serve) -> None:
    client = serve()
    send(client, {"wait.png": png()})
    while (job := client.get("/job").json())["percent"] is None:
        time.sleep(0.02)
    assert (job["stage"], job["percent"]) == ("Importing", 40)
    assert "being classified" in send(client, {"a.png": png()})["error"]
    assert client.delete("/job").json()["state"] == "cancelled"
    assert send(client, {"a.png": png()})["state"] == "running"
    assert ended(client)["state"] == "done"


def test_an_error_of_the_command_is_one_sentence_in_the_words_of_the_page(serve: Serve) -> None:
    client = serve()
    send(client, {"broken.png": b"no image"})
    job = ended(client)
    words = "broken.png is no image. “Volume imaged” 9: give “v 1 = 0.5”."
    assert (job["state"], job["error"]) == ("failed", words)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../a.png": b""}, "refused"),
        ({"/etc/a.png": b""}, "refused"),
        ({"C:\\a.png": b""}, "refused"),
        ({"..\\..\\a.png": b""}, "refused"),
        ({"a\0.png": b""}, "refused"),
        ({f"{'a' * 300}.png": b""}, "refused"),
        ({"/".join("abcdefghijklmnop") + ".png": b""}, "refused"),
        ({"a.png": b"", "A/../a.png": b""}, "refused"),
        ({"a.png": b"1", "./a.png": b"2"}, "Two files are named a.png"),
        ({"a.png": b"1", "a.png/b.png": b"2"}, "a.png"),
        ({"a.zip": zipped(**{"../a.png": b""})}, "refused"),
        ({"a.zip": b"no archive"}, "a.zip cannot be unpacked"),
        ({"a.zip": zipped(a=b"")[:-30]}, "a.zip cannot be unpacked"),
        ({"a.zip": zipped(**{"bomb.png": bytes(3_000_000)})}, "more than 2 MB"),
        ({"a.zip": zipped(**{f"{n}.png": b"" for n in range(9)})}, "more than 5 files"),
        ({"a.zip": zipped(**{f"{n}.docx": b"" for n in range(4)}, **{"a.png": b""})}, "5 files"),
        ({f"{n}.png": b"" for n in range(9)}, "more than 5 files"),
        ({"a.png": bytes(3_000_000)}, "more than 2 MB"),
        ({"a.png": png(1000, 600), "b.png": png(1000, 600)}, "more than 1 megapixels"),
        ({"a.txt": b"", "b.exe": b""}, ""),
        ({"b.exe": b""}, "holds no images"),
        ({".a.png": b"", "z.zip": zipped(**{"z.zip": zipped(a=b"")})}, "holds no images"),
    ],
)
def test_hostile_uploads_end_in_one_sentence(
    serve: Serve, tmp_path: Path, files: dict[str, bytes], words: str
) -> None:
    client = serve(max_files=5, max_upload_mb=2, max_megapixels=1)
    error = send(client, files).get("error", "")
    assert words in error
    assert len(error.splitlines()) <= 1
    assert str(tmp_path) not in error
    ours = {"temporary", "outputs", "predict.py", "results"}
    assert {path.name for path in tmp_path.iterdir()} <= ours


def test_an_upload_that_was_refused_is_not_classified(serve: Serve) -> None:
    client = serve(max_files=1)
    upload = client.post("/uploads").json()["id"]
    for name in ("a.png", "b.png"):
        client.put(f"/uploads/{upload}", params={"path": name}, content=png())
    asked = {"upload": upload, **USUAL}
    assert "more than 1 files" in client.post("/job", json=asked).json()["error"]
    newer = client.post("/uploads").json()["id"]
    assert "replaced" in client.post("/job", json=asked).json()["error"]
    spaced = json.dumps({**asked, "upload": newer}) + " " * 70_000
    assert "longer than 65,536 bytes" in client.post("/job", content=spaced).json()["error"]
    for name in ("classifier", "volume_ml", "blank"):
        long = {**asked, "upload": newer, name: "a" * 20_000}
        assert "at most" in client.post("/job", json=long).json()["error"]
    for wrong in ({"classifier": "../../etc"}, {"kind": "odd"}, {"dilution": -1}, {"more": 1}):
        answer = client.post("/job", json={**asked, "upload": newer, **wrong})
        assert answer.status_code == 400
        assert len(answer.json()["error"].splitlines()) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "http://127.0.0.1:8000@evil.example"}, 403),
        ({"Origin": "http://[x"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example"}, 400),
    ],
)
def test_other_pages_and_other_names_of_this_machine_are_refused(
    serve: Serve, headers: dict[str, str], status: int
) -> None:
    client = serve()
    assert client.post("/uploads", headers=headers).status_code == status
    assert client.delete("/job", headers=headers).status_code == status
    if "Host" in headers:
        assert client.get("/", headers=headers).status_code == 400
    del client.headers["Origin"]
    assert client.post("/uploads", headers={**headers, "Origin": ""}).status_code in (400, 403)


def test_the_page_may_load_and_call_nothing_else(serve: Serve) -> None:
    client = serve()
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("style.css", "page.css", "page.js"):
        assert client.get(f"/static/{name}").status_code == 200
    assert client.get("/static/page.html.j2").status_code == 404


def test_released_exported_and_trained_classifiers_are_offered(
    serve: Serve, tmp_path: Path
) -> None:
    """Imported weights come last, and those to start from, which are no classifier, not at all."""
    study = tmp_path / "outputs" / "study"
    for name, more in {
        "exported": ["config.json", "results.json"],
        "imported": ["config.json"],
        "start": ["mapping.json"],
    }.items():
        (study / name).mkdir()
        for file in ("model.safetensors", *more):
            (study / name / file).write_text("")
    page = serve().get("/").text
    offered = [line.strip() for line in page.splitlines() if line.startswith("<option>")]
    named = [f"<option>{name}</option>" for name in ("study/exported", "study/run")]
    named.append("<option>pretrained/flow_imaging_64px</option>")
    assert offered == [*named, "<option>study/imported</option>"]


def test_a_second_classifier_of_one_name_does_not_replace_the_preferred(tmp_path: Path) -> None:
    for place in ("elsewhere", "outputs"):
        run = tmp_path / place / "study" / "run"
        run.mkdir(parents=True)
        for name in (CLASSIFIER, "checksums.json", "results.json"):
            (run / name).write_text("{}")
    preferred, other = tmp_path / "elsewhere/study/run", tmp_path / "outputs/study/run"
    found = desk.Desk(tiny().serve, [], tmp_path / "outputs", preferred).classifiers()
    assert list(found.items())[:2] == [(str(run), run) for run in (preferred, other)]
    found = desk.Desk(tiny().serve, [], tmp_path / "outputs", other).classifiers()
    assert next(iter(found)) == "study/run"


def test_without_a_classifier_the_page_says_what_to_do(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "RELEASED", tmp_path / "nothing")
    (tmp_path / "outputs/study/run/checksums.json").unlink()
    assert "There is no classifier yet" in serve().get("/").text
