"""`python -m pipelines.submitted FOLDER DESCRIPTOR`: carry out one submitted run and write down how it ended.

Started by `pipelines.submit_local`, which holds the lock behind the descriptor for as long as this process lives.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.submit_local import MOST_STARTS, OUTCOME, REQUEST
from windlass import atomic, settings
from windlass.errors import WindlassError


def carry_out(folder: Path) -> dict[str, Any]:
    """Run the pipeline as `request.json` says; the outcome, written into the folder as well."""
    request = json.loads((folder / REQUEST).read_bytes())
    starts = int(request["starts"]) + 1
    atomic.write_text(folder / REQUEST, json.dumps({**request, "starts": starts}))
    began = time.monotonic()
    outcome: dict[str, Any] = {"result": None, "error": None}
    if starts > MOST_STARTS:
        outcome["error"] = f"its process was killed {MOST_STARTS} times; the log is {folder / 'log.txt'}"
    else:
        try:
            outcome["result"] = _train(folder, request)
        except WindlassError as error:
            outcome["error"] = str(error)
        except Exception as error:  # whatever it was, the trigger must hear that the run has ended
            outcome["error"] = f"{type(error).__name__}: {error}"
    outcome["seconds"] = round(time.monotonic() - began, 3)
    atomic.write_text(folder / OUTCOME, json.dumps(outcome))
    return outcome


def _train(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    from pipelines import local, span
    from windlass import catalog

    configured = settings.load()
    workload = catalog.load(request["workload"], configured.project)
    kept = request.get("span")
    if kept is None:
        # written down: a run that is started again is the same run, whatever data has come since
        kept = asdict(span.of(configured, workload, request["detail"]))
        current = json.loads((folder / REQUEST).read_bytes())
        atomic.write_text(folder / REQUEST, json.dumps({**current, "span": kept}))
    found = span.Span(**kept)
    return local.train(
        configured,
        local.Request(
            workload.name,
            found.start,
            found.end,
            None if found.data is None else Path(found.data),
            request["detail"].get("trials"),
            request["name"],
        ),
    )


def main(argv: list[str] | None = None) -> int:
    folder, descriptor = (argv or sys.argv[1:])[:2]
    # the lock is ours alone: a step's process that outlives us must not keep it
    os.set_inheritable(int(descriptor), False)
    outcome = carry_out(Path(folder))
    if outcome["error"] is not None:
        sys.stderr.write(f"windlass: the run failed: {outcome['error']}\n")
    return 0 if outcome["error"] is None else 1


if __name__ == "__main__":
    sys.exit(main())
