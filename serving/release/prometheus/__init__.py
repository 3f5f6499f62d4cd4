"""Evidence from Prometheus: named queries, the raw samples they give, and exact counts made of them."""
