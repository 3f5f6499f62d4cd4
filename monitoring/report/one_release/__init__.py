"""The page of one release: what came of it, on which evidence, with its journal inside so that it can be replayed."""

from monitoring.report.one_release.embedded import EmbeddedError, extract
from monitoring.report.one_release.page import page, render

__all__ = ["EmbeddedError", "extract", "page", "render"]
