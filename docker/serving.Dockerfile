# The image of the model server alone: it serves a bundle that is mounted, and keeps no state but its prediction log.
#
#     docker run --read-only --cap-drop ALL -p 8080:8080 -v BUNDLE:/model:ro -v KEYS:/keys:ro -v LOGS:/logs IMAGE \
#         --bundle /model --verify-key /keys/verify.pem --require-signature --log /logs/predictions.jsonl
#
# It writes where --log says and nowhere else. The formats that are read by path (keras, pyfunc, tl2cgen) also need a
# /tmp that may be written, for the copy of what was verified: --tmpfs /tmp:exec, an emptyDir.
FROM python:3.11.13-slim-bookworm AS packages

# A build behind a proxy with its own authority names the bundle with --build-arg PIP_CERT=/path and mounts it there.
ARG PIP_CERT
ENV PIP_CERT=${PIP_CERT} \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/venv/bin:${PATH}

COPY requirements/serving.lock /tmp/serving.lock
# --no-deps: the lock is complete, and an older pip takes `package[extra]` of a dependency for one that is not in it.
RUN python3 -m venv /opt/venv \
    && python3 -m pip install --no-deps --no-compile --require-hashes --requirement /tmp/serving.lock

# LightGBM takes the system's OpenMP, which the base lacks. scikit-learn's copy is in the lock by its hash, and one
# library for both means one pool of threads.
RUN ln -s "$(find /opt/venv -path '*/scikit_learn.libs/libgomp-*')" /opt/venv/lib/libgomp.so.1

# Nothing imports the packages' own tests, and nothing is installed from here on.
RUN python3 -m pip uninstall --yes pip setuptools \
    && find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -r {} +

# Only what the server imports; a test runs it from these alone.
COPY windlass/__init__.py windlass/atomic.py windlass/errors.py windlass/prediction_log.py windlass/telemetry.py /opt/windlass/windlass/
COPY windlass/features/__init__.py windlass/features/ondemand.py /opt/windlass/windlass/features/
COPY serving/__init__.py /opt/windlass/serving/
COPY serving/runtime /opt/windlass/serving/runtime

# A read-only root keeps no bytecode, so it is made here. By hash and unchecked: an image's times are its builder's.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv /opt/windlass

FROM python:3.11.13-slim-bookworm

ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/windlass \
    LD_LIBRARY_PATH=/opt/venv/lib \
    PYTHONDONTWRITEBYTECODE=1 \
    # a folder that the server happens to stand in is no place to import from
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    OMP_NUM_THREADS=1 \
    HOME=/tmp

# The base comes without the standard library's bytecode.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|lib2to3)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /opt/windlass /opt/windlass

USER 65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# Kubernetes probes /v2/health/live and /v2/health/ready.
HEALTHCHECK NONE
# An argument given again wins over these two.
ENTRYPOINT ["python3", "-m", "serving.runtime", "--host", "0.0.0.0", "--port", "8080"]
CMD ["--help"]
