"""The retrain trigger put together: its policy's document, the runs, the registry and the releases around it."""
