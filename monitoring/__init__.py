"""Watching a live model: predictions and their outcomes, drift, performance, the retrain trigger."""
