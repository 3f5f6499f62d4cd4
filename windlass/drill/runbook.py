"""What an alert's runbook says, and doing it: the commands of its page are run as they stand there.

Those of a cluster, and of the machine's administrator, are left out where there is none of either.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from windlass.drill.record import Record
from windlass.drill.stage import MODEL, Stage
from windlass.errors import WindlassError

PAGES = Path(__file__).parents[2] / "docs" / "runbooks"
CLUSTER = "On a cluster:"
#: A command that looks for faults says 1 where it finds one.
FINDS = ("doctor",)


def follow(
    stage: Stage,
    record: Record,
    alert: str,
    *,
    act: Sequence[str] = (),
    files: Mapping[str, Path] | None = None,
    version: str = "1",
    codes: Mapping[str, int] | None = None,
) -> None:
    """Run every command that the page has for looking, and those of acting that a drill needs.

    Args:
        act: commands as they stand in the page's part "Act".
        files: what stands for a file's name in the page.
        codes: exit codes that are expected in place of 0, by the beginning of the command.
    """
    parts = page(alert)
    record.note("runbook", f"docs/runbooks/{alert}.md: {means(alert)}")
    looked = list(commands(parts["Look"].partition(CLUSTER)[0]))
    for line in looked:
        _run(stage, record, line, files or {}, version, codes or {})
    known = list(commands(parts["Act"]))
    for line in act:
        if record.expect("runbook", f"the page says `{line}`", line in known):
            _run(stage, record, line, files or {}, version, codes or {})


def page(alert: str) -> dict[str, str]:
    """The parts of a page by their headings.

    Raises:
        WindlassError: there is none.
    """
    path = PAGES / f"{alert}.md"
    if not path.is_file():
        raise WindlassError(f"alert {alert} has no runbook at {path}; write it, or play drills in a checkout")
    _, *parts = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0].strip(): part.partition("\n")[2] for part in parts}


def means(alert: str) -> str:
    """What a page says that its alert means, in a line."""
    text = (PAGES / f"{alert}.md").read_text()
    found = re.search(r"\*\*Means\.\*\* (.*?)\n\n", text, re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


def commands(text: str) -> Iterable[str]:
    """The lines of the blocks of commands, without what only sets a variable and without comments."""
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and not re.fullmatch(r"[A-Z]+=\S*", words[0]):
                yield line.partition(" #")[0].strip()


def _run(
    stage: Stage,
    record: Record,
    line: str,
    files: Mapping[str, Path],
    version: str,
    codes: Mapping[str, int],
) -> None:
    filled = line.replace("$MODEL", MODEL).replace("$VERSION", version)
    words = [str(files.get(word, word)) for word in shlex.split(filled)]
    if words[0] != "windlass":
        record.note("runbook", f"`{line}` is for the machine's administrator and is not run here")
        return
    code, said = stage.attempt(*(w for w in words[1:] if w != "--json"))
    expected = next(((c,) for start, c in codes.items() if line.startswith(start)), None)
    right = code in (expected or ((0, 1) if words[1] in FINDS else (0,)))
    told = said.get("error", {}).get("message", "") if isinstance(said.get("error"), dict) else ""
    record.expect("runbook", f"`{line}` ends with {code}", right, said=str(told)[:600])
