"""A folder as the kubelet keeps a mounted ConfigMap: links to `..data`, which is a link to a dated folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class MountedFolder:
    """One mounted ConfigMap; `put` changes all of its files at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        folder.mkdir()

    def put(self, files: Mapping[str, str]) -> None:
        self._count += 1
        dated = self.folder / f"..2026_{self._count}"
        dated.mkdir()
        for name, text in files.items():
            (dated / name).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(dated.name)
        link.replace(self.folder / "..data")
        for name in files:
            shown = self.folder / name
            if not shown.is_symlink():
                shown.symlink_to(Path("..data") / name)
        for shown in self.folder.glob("*.yaml"):
            if shown.name not in files:
                shown.unlink()
