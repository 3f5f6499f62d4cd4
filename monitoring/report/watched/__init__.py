"""What the analysis found, window by window: the parts of the report about a model that is watched.

The same panels as Grafana's, of the analyses' own files: a machine without Prometheus has them too.
"""

from monitoring.report.watched.looks import Look, headline, looks, measured
from monitoring.report.watched.parts import parts

__all__ = ["Look", "headline", "looks", "measured", "parts"]
