"""Write the rules: `python -m monitoring.rules`; `--check` only says whether the files are up to date."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from monitoring.rules import document
from monitoring.rules.objectives import Objectives, seconds
from windlass.atomic import write_text
from windlass.errors import UsageError, WindlassError

PLACES = ("monitoring/rules/windlass.rules.yaml", "helm/windlass/files/prometheusrule.yaml")


def written(objectives: Objectives, runbooks: str) -> dict[str, str]:
    """The files by their place in the project."""
    found = document.groups(objectives)
    return {
        PLACES[0]: document.text(document.rules(found, runbooks)),
        PLACES[1]: document.text(document.prometheus_rule(found, runbooks)),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m monitoring.rules", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the project (default: here)")
    parser.add_argument("--runbooks", default=document.RUNBOOKS, help="where runbooks are read")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another objective")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is not up to date"
    )
    arguments = parser.parse_args(argv)
    try:
        files = written(_objectives(arguments.set), arguments.runbooks)
    except WindlassError as error:
        print(f"monitoring.rules: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    stale = [
        place
        for place, content in files.items()
        if not (path := arguments.out / place).is_file() or path.read_text() != content
    ]
    if arguments.check:
        for place in stale:
            print(f"{place} is not up to date; run python -m monitoring.rules", file=sys.stderr)  # noqa: T201
        return 1 if stale else 0
    for place in stale:
        write_text(arguments.out / place, files[place])
    return 0


def _objectives(changes: Sequence[str]) -> Objectives:
    """The default ones with `changes`, each "name=value".

    Raises:
        UsageError: a name is not known or its value is none of its kind.
    """
    default = Objectives()
    given: dict[str, float | str] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in {field.name for field in dataclasses.fields(default)}:
            known = ", ".join(field.name for field in dataclasses.fields(default))
            raise UsageError(f"--set {change}: {name!r} is no objective; there are {known}")
        try:
            if isinstance(getattr(default, name), float):
                given[name] = float(value)
            elif name == "fast_seconds":
                float(value)
                given[name] = value
            else:
                seconds(value)
                given[name] = value
        except ValueError as error:
            raise UsageError(f"--set {change}: {error}") from None
    return dataclasses.replace(default, **given)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
