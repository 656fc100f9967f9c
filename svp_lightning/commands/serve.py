"""``task=serve``: a page in the browser that classifies what is dropped into it."""

import signal
import socket
import sys
from contextlib import suppress
from ipaddress import ip_address

from svp_lightning.errors import SettingsError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.terminal import say
from svp_lightning.web.settings import ServeSettings

OWN = ("task=", "serve.", "predict.run=", "data=", "data.root=", "data/")
"""Of the command line, what predictions do not share: the page chooses these."""


def run(pipeline: Pipeline) -> None:
    """Serve the page until it is interrupted; uploads are then gone.

    Raises:
        SettingsError: the optional extra is not installed, or the address cannot be used.
    """
    try:
        import uvicorn

        from svp_lightning.web.application import LOOPBACK, application
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"task=serve needs {error.name}, which is not installed.",
            "Install the extra: pip install 'svp-lightning[web]'.",
        ) from error
    config = pipeline.config
    settings = config.serve
    shared = [word for word in sys.argv[1:] if not word.startswith(OWN)]
    predict = [sys.executable, "-m", "svp_lightning", *shared, "task=predict"]
    app = application(settings, predict, config.paths.outputs, config.predict.run)
    with _listening(settings) as listener:
        if settings.host not in LOOPBACK:
            say(
                f"Warning: everyone who reaches {settings.host} can use this page and see its "
                "results, without a password and unencrypted."
            )
        say(f"Open http://{settings.host}:{listener.getsockname()[1]} in a browser; Ctrl-C ends.")
        # Closing the terminal ends it as Ctrl-C does, so that uploads are removed.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGINT))
        served = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(served).run(sockets=[listener])
        say("Stopped; uploads are removed.")


def _listening(settings: ServeSettings) -> socket.socket:
    """A socket at the address of the settings."""
    host, port = settings.host, settings.port
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        reason, *_ = str(error.strerror).partition(" (while")  # which names the address again
        raise SettingsError(
            f"The page cannot listen on {host}:{port} ({reason}).",
            "Set serve.port to another number, and serve.host to an address of this machine.",
        ) from error
    if ip_address(listener.getsockname()[0]).is_unspecified:
        listener.close()
        raise SettingsError(
            f"serve.host={host} listens on every network of this machine.",
            "Give the one address, or name, at which others may reach it.",
        )
    # Inherited by connections: else each answer waits 40 ms for the one before to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
