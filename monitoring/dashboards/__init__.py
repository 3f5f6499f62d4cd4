"""Grafana's dashboards: `python -m monitoring.dashboards` writes the JSON in `generated/`, which Grafana imports."""
