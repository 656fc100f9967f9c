"""The launcher's own failure."""

from hydra.errors import CompactHydraException

from svp_lightning.errors import DistributedError


class LauncherError(DistributedError, CompactHydraException):
    """A sweep cannot be run as asked; Hydra prints the message without a traceback."""
