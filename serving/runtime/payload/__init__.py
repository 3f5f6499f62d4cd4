"""What is kept of each prediction, handed to a bounded sink beside the request path."""
