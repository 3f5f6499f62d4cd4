"""Versions of the training data: partitions that passed validation, kept by DVC, each version named by its content."""
