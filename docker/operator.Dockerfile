# The operator: watches custom resources and moves traffic. No model, no trainer and no registry client is in it.
#
#     docker build -f docker/operator.Dockerfile -t windlass/operator:0.1.0 .
#
# It writes nothing but its log: --read-only --cap-drop ALL. The chart runs it (helm/windlass); docs/operator.md says how
# it is told what to look after.
FROM python:3.11.13-slim-bookworm AS packages

# A build behind a proxy with its own authority names the bundle with --build-arg PIP_CERT=/path and mounts it there.
ARG PIP_CERT
ENV PIP_CERT=${PIP_CERT} \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/venv/bin:${PATH}

COPY requirements/operator.lock /tmp/operator.lock
# --no-deps: the lock is complete, and an older pip takes `package[extra]` of a dependency for one that is not in it.
RUN python3 -m venv /opt/venv \
    && python3 -m pip install --no-deps --no-compile --require-hashes --requirement /tmp/operator.lock

# Nothing imports the packages' own tests, and nothing is installed from here on.
RUN python3 -m pip uninstall --yes pip setuptools \
    && find /opt/venv -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -r {} +

# Only what the operator imports; a test runs it from these alone.
COPY windlass/__init__.py windlass/atomic.py windlass/clock.py windlass/contract.py windlass/errors.py \
    windlass/journal.py windlass/metrics_page.py windlass/retrain_policy.py windlass/settings.py \
    windlass/telemetry.py /opt/windlass/windlass/
COPY monitoring/__init__.py /opt/windlass/monitoring/
COPY monitoring/retrain/__init__.py monitoring/retrain/signals.py /opt/windlass/monitoring/retrain/
COPY windlass/operator /opt/windlass/windlass/operator
COPY serving/__init__.py /opt/windlass/serving/
COPY serving/runtime /opt/windlass/serving/runtime
COPY serving/release /opt/windlass/serving/release

# A read-only root keeps no bytecode, so it is made here. By hash and unchecked: an image's times are its builder's.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv /opt/windlass

FROM python:3.11.13-slim-bookworm

ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/windlass \
    PYTHONDONTWRITEBYTECODE=1 \
    # a folder that the process happens to stand in is no place to import from
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    # sums over a few arms: threads of a linear algebra library would cost memory and nothing else
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    HOME=/tmp

# The base comes without the standard library's bytecode.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|lib2to3)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=packages /opt/venv /opt/venv
COPY --from=packages /opt/windlass /opt/windlass

USER 65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# Kubernetes probes /healthz and /readyz.
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "windlass.operator"]
