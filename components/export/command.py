"""`windlass export`, from a model's address to its bundle."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from components import logged_model, signing
from components.export import rows as parity_rows
from components.export import subject, writing
from components.export.subject import Method
from components.registry import Registry
from windlass.errors import UsageError
from windlass.settings import Settings

SCHEMES = ("models:/", "runs:/")


def run(
    settings: Settings, uri: str, out: Path, *, rows: Path | None, int8: bool, method: Method | None
) -> writing.Report:
    """Fetch the model that `uri` names and write its bundle to `out`.

    Raises:
        UsageError: there is no such model, or the rows are not its own.
        WindlassError: no form of it is faithful.
    """
    if out.exists():
        raise UsageError(f"{out} exists; give --out a folder that does not")
    with tempfile.TemporaryDirectory(prefix="windlass-export-") as place:
        if uri.startswith(SCHEMES):
            folder, name, version = Registry(settings).fetch_model(uri, Path(place))
        elif Path(uri).is_dir():
            folder, name, version = Path(uri).resolve(), Path(uri).resolve().name, "1"
        else:
            raise UsageError(
                f"model {uri!r} is neither a folder nor one of {', '.join(s + '…' for s in SCHEMES)}; "
                "give models:/name/version, models:/name@alias, runs:/RUN/PATH or an MLflow model's folder"
            )
        exported = subject.of_logged(logged_model.read(folder), method)
        asked = parity_rows.read(exported, rows)
        # a bundle's names become part of request paths
        served = re.sub(r"[^A-Za-z0-9._-]", "-", name)
        keys = signing.keys(settings)
        return writing.export(exported, served, version, asked, out, int8=int8, keys=keys)
