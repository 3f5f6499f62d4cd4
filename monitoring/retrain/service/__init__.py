"""The retrain trigger as a service: alerts and events come in by HTTP, runs and releases are followed to their end."""
