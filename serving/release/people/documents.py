"""Release documents in files."""

from __future__ import annotations

from pathlib import Path

from windlass.errors import UsageError


def read(path: Path) -> str:
    """The text of a document's file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"release document {path} cannot be read ({reason}); give a YAML file") from error
