"""The platform on one machine: real model servers behind a real Envoy, and the loop that watches them."""
