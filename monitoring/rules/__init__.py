"""Recording and alerting rules of Prometheus: written once in Python, rendered to YAML, tested by promtool."""
