"""The analysis jobs: one window of one model judged from every side, and the results as files, metrics and signals."""
