"""Signals that something is wrong with a model, and the one retraining that answers each cause."""
