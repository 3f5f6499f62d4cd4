"""The faults: one module a drill."""
