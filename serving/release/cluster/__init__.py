"""Releases on Kubernetes: what the engine needs of an API server, told through it and read back from it.

Traffic: `gateway.py` is the default, one InferenceService for each version and one HTTPRoute of ours over them;
`kserve.py` and `knative.py` drive what KServe itself offers, for those who run it that way. `servers.py` has the
versions' servers made, `store.py` keeps the journals, and `lease.py` says which of several engines acts.
"""
