"""The report page of one release, written where people find it: the one place that knows the engine and the page."""

from __future__ import annotations

from pathlib import Path

from windlass.settings import Settings


def folder(settings: Settings) -> Path:
    """Where a platform leaves the page of each finished release: `<model>/<number>-<name>.html`."""
    return settings.home / "reports"


def write(settings: Settings, model: str, name: str | None = None, out: Path | None = None) -> Path:
    """Write the page of a model's release, its newest without a name; an older page of it is replaced.

    Args:
        out: where to; None for the place in `folder`.

    Returns:
        The page's path.

    Raises:
        UsageError: there is no such release.
    """
    from monitoring.report import one_release
    from serving.release.people import account, dossier

    told = account.find(settings.journal_dir / "releases", model, name)
    entry = told.entry
    place = out or folder(settings) / model / f"{entry.number:04d}-{entry.name}.html"
    one_release.render(dossier.dossier(told), place)
    return place
