"""`windlass demo`: a year of real flights replayed through the whole loop on an accelerated clock."""
