"""What is kept of an upload where the browser, or another tab, does not do as the page does."""

import asyncio
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from svp_lightning.errors import DataError
from svp_lightning.web.uploads import Upload
from tests.configured import changed, tiny
from tests.web.test_application import zipped


@pytest.mark.parametrize("name", ["a.zip", "a.png"])
def test_what_arrives_after_a_newer_upload_is_refused(tmp_path: Path, name: str) -> None:
    upload = Upload(tmp_path, tiny().serve)

    async def slow() -> AsyncIterator[bytes]:
        content = zipped(**{"a.png": b"1"})
        yield content[:50]
        upload.remove()  # as a second tab has it
        yield content[50:]

    with pytest.raises(DataError, match="replaced by a newer one"):
        asyncio.run(upload.receive(name, slow()))
    assert not list(tmp_path.iterdir())


def test_a_directory_of_too_many_files_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped(**{f"{n}.docx": b"" for n in range(9)})

    async def whole() -> AsyncIterator[bytes]:
        yield content

    monkeypatch.delattr(zipfile, "ZipInfo")
    upload = Upload(tmp_path, changed(tiny().serve, {"max_files": 5}))
    with pytest.raises(DataError, match="more than 5 files"):
        asyncio.run(upload.receive("a.zip", whole()))
