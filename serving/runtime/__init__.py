"""The model server: one small asyncio process beside each model version.

It reads features from the online store itself, so that a request carries entity keys and request-time
fields only. Nothing of Feast, MLflow, pandas or scikit-learn is imported here: the process is ready within
a second and its image stays small.
"""

from windlass import telemetry

# here and not in the entry point: onnxruntime's native code decides whether to report home when it is first imported,
# and whoever wraps this server in a process of its own imports this package before it
telemetry.switch_off()
