"""The start of a workload from a file: what its columns are, and the code that says so."""
