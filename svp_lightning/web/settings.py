"""Settings of ``task=serve``; free of the web libraries, which are an optional extra."""

from pydantic import Field

from svp_lightning.runtime.settings import Settings


class ServeSettings(Settings):
    """Where the web page listens, and how much it takes.

    The limits hold for one upload, its archives unpacked.
    """

    host: str
    """Address to listen on. Any other than ``127.0.0.1`` and ``localhost`` shows the page, without
    a password, to everyone who reaches that address, and a warning says so."""
    port: int = Field(ge=0, le=65535)
    """0: any that is free."""
    max_upload_mb: int = Field(ge=1)
    max_files: int = Field(ge=1)
    max_megapixels: int = Field(ge=1)
    """Pixels of all pictures together, as their headers say."""
