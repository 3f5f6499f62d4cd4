"""The feedback endpoint: a small process that acknowledges a label only once it is on the disk."""
