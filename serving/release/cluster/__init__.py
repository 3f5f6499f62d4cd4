"""The traffic of models on Kubernetes: three ways to split it, each told through the API server and read back from it.

`gateway.py` is the default: one InferenceService for each version and one HTTPRoute of ours over them. `kserve.py` and
`knative.py` drive what KServe itself offers, for those who run it that way.
"""
