# The image of the training pipeline's steps, named by pipelines/compiled/training.yaml.
#
# A Kubeflow Pipelines pod runs as non-root without capabilities and may write only where its user may: the user is
# numeric, and everything that a step writes lies under /var/lib/windlass or /tmp. It carries no DVC: a step reads data
# versions from the object store (docs/data-versions.md).
FROM python:3.11.13-slim-bookworm

# A build behind a proxy with its own authority names the bundle with --build-arg PIP_CERT=/path and mounts it there.
ARG PIP_CERT
ENV PIP_CERT=${PIP_CERT} \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# An environment of its own, first on PATH: `python3` must be the one that has kfp, and a base whose Python belongs
# to its distribution (Debian's, say) takes no packages.
ENV PATH=/opt/venv/bin:${PATH}
WORKDIR /opt/windlass
COPY requirements/training.lock requirements/
# --no-deps: the lock is complete, and an older pip takes `package[extra]` of a dependency for one that is not in it.
RUN python3 -m venv /opt/venv \
    && python3 -m pip install --no-deps --require-hashes --requirement requirements/training.lock

# The wheel holds the packages; feature_repo is read from the project folder.
COPY pyproject.toml README.md ./
COPY windlass windlass
COPY components components
COPY pipelines pipelines
COPY serving serving
COPY monitoring monitoring
COPY workloads workloads
COPY feature_repo feature_repo
RUN python3 -m pip install --no-deps --no-build-isolation . \
    && mkdir -p /var/lib/windlass \
    && chown 65532:65532 /var/lib/windlass

ENV PIP_CERT= \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    WINDLASS_PROJECT=/opt/windlass \
    WINDLASS_HOME=/var/lib/windlass

USER 65532
WORKDIR /tmp
ENTRYPOINT []
CMD ["python3", "-m", "windlass", "--help"]
