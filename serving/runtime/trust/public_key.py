"""Where the public key lies that bundles are checked with, for whoever is given none by an argument."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import UsageError

if TYPE_CHECKING:  # the server's image has no settings
    from windlass.settings import Settings

VARIABLE = "WINDLASS_VERIFY_KEY"
MOUNTED = Path("/etc/windlass/signing")
"""Where a pod finds `verify.pem`, and where it may sign `signing.pem`, unless the environment names others."""
FILE = "verify.pem"


def find(settings: Settings, environ: Mapping[str, str] | None = None) -> Path:
    """The file that the environment names, else that of `MOUNTED`, else the home's.

    Raises:
        UsageError: there is none.
    """
    named = (os.environ if environ is None else environ).get(VARIABLE)
    if named:
        return Path(named).resolve()
    for folder in (MOUNTED, settings.home / "keys"):
        if (folder / FILE).is_file():
            return folder / FILE
    raise UsageError(
        f"nobody says by which key bundles are signed: {MOUNTED / FILE} is not there; mount the ConfigMap "
        f"windlass-verify-key there, or name the file in {VARIABLE}"
    )
