"""Write the dashboards: `python -m monitoring.dashboards`; `--check` only says whether the files are up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from monitoring.dashboards.document import files
from windlass.atomic import write_text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m monitoring.dashboards", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the project (default: here)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is not up to date"
    )
    arguments = parser.parse_args(argv)
    stale = {
        place: content
        for place, content in files().items()
        if not (path := arguments.out / place).is_file() or path.read_text() != content
    }
    for place, content in stale.items():
        if arguments.check:
            print(f"{place} is not up to date; run python -m monitoring.dashboards", file=sys.stderr)  # noqa: T201
        else:
            write_text(arguments.out / place, content)
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
