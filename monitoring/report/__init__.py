"""The report: one self-contained page about what the loop did, for people."""

from monitoring.report.page import render

__all__ = ["render"]
