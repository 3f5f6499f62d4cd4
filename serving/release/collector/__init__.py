"""Evidence that the collector has: rewards, pairs and units, out of the predictions and the feedback that it takes."""
