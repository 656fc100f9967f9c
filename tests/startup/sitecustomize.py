"""Python runs this at the start of each process that has its folder in ``PYTHONPATH``."""

from tests.quick import install

install()
