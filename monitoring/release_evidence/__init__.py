"""What the versions of a live release are worth: rewards, pairs and losses, as sums over requests."""
