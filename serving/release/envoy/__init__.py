"""The local traffic backend: the real Envoy, told through watched files, read back from its admin and its log."""
