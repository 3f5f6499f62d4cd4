"""Takes predictions and labels: acknowledged once they are on the disk, stored once in parquet (docs/collector.md)."""
