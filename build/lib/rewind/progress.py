"""Whether somebody watches: progress bars are for them."""

from __future__ import annotations

import os
import sys

__all__ = ["visible"]


def visible() -> bool:
    """Return True in a terminal and in a notebook that JupyterLab opened, False in tests, logs and papermill."""
    return sys.stderr.isatty() or bool(os.environ.get("JPY_SESSION_NAME"))
