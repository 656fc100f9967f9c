"""A headless Chromium that a test drives as a person does, over the DevTools protocol."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60
KEYS = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40}


class Page:
    """One page of the browser."""

    def __init__(self, loop: IOLoop, socket: WebSocketClientConnection) -> None:
        self._loop, self._socket, self._number = loop, socket, 0

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}

        async def answer() -> Any:
            await self._socket.write_message(json.dumps(message))
            while True:
                said = await self._socket.read_message()
                assert said is not None, "the browser has closed"
                found = json.loads(said)
                if found.get("id") == self._number:
                    assert "error" not in found, found["error"]
                    return found["result"]

        return self._loop.run_sync(answer, timeout=SECONDS)

    def open(self, address: str) -> None:
        """Show a page and wait until its scripts have run."""
        self.evaluate("window.stale = true")
        self.call("Page.navigate", url=address)
        self.wait("!window.stale && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = SECONDS) -> None:
        """Until a JavaScript expression is true."""
        self.wait_for(lambda: bool(self.evaluate(f"Boolean({condition})")), seconds)

    @staticmethod
    def wait_for(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Until a function returns true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it does not happen"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Type keys one after the other."""
        for key in keys:
            code = KEYS.get(key, ord(key[0].upper()))
            common = {"key": key, "windowsVirtualKeyCode": code}
            if key == "Enter":
                common["text"] = "\r"  # which presses a button
            self.call("Input.dispatchKeyEvent", type="keyDown", **common)
            self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point, move it to the others, release it at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*points, points[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drop(self, selector: str, *files: Path) -> None:
        """Drag files or folders from the desktop onto the middle of an element."""
        element = f"document.querySelector('{selector}')"
        self.evaluate(f"{element}.scrollIntoView()")
        box = f"{element}.getBoundingClientRect()"
        x, y = self.evaluate(
            f"(() => {{ const b = {box}; return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        )
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A page of a new browser whose profile is in ``folder``; skips where there is no browser."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")
    place = (f"--user-data-dir={folder}", "--remote-debugging-port=0", "--window-size=1200,900")
    with (folder.parent / "browser.log").open("wb") as log:
        process = subprocess.Popen([found, *options, *place, "about:blank"], stderr=log, stdout=log)
    loop = IOLoop(make_current=False)
    try:
        yield Page(loop, loop.run_sync(lambda: websocket_connect(_address(folder)), SECONDS))
    finally:
        process.terminate()
        process.wait(SECONDS)
        loop.close()


def _address(folder: Path) -> str:
    """Of the first page's socket."""
    port = folder / "DevToolsActivePort"
    Page.wait_for(lambda: port.is_file() and bool(port.read_text()))
    with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list") as answer:
        pages = json.load(answer)
    return next(str(page["webSocketDebuggerUrl"]) for page in pages if page["type"] == "page")
