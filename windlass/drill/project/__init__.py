"""The project that drills play on: an online shop's orders, copied into a scratch folder."""
