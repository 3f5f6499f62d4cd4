# Needs Python 3.11, make and a package index; everything else comes from requirements/local.lock into .venv.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := .venv/bin
ARGS ?=
# Two workers: the suite is written for two cores, and every worker may hold a gigabyte.
WORKERS ?= 2

COMPILE_FOR_TESTS := pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--python-version 3.11
COMPILE := $(COMPILE_FOR_TESTS) pyproject.toml

.PHONY: help demo test test-cluster test-cluster-long cluster-up lint format verify manifests kind-up kind-down clean lock

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.complete ## Tell the whole story on real flights; ARGS="--fast --out DIR" passes arguments on
	@$(BIN)/windlass demo $(ARGS)

test: .venv/.complete ## Run the default suite; ARGS="-k release" passes arguments to pytest
	@# before the clock of a test runs; where it is built already this is instant
	@$(BIN)/python -m tests.cluster.tools.build --api-tier
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-cluster: .venv/.complete ## Tell the story on a real Kubernetes node, as root on Linux; ARGS as above
	@$(BIN)/python -m tests.cluster.node.prepare
	@$(BIN)/python -m pytest -m node tests/cluster/node -s $(ARGS)

test-cluster-long: .venv/.complete ## A shadow and a bandit, and ten minutes of faults under 100 requests a second, on such nodes
	@$(BIN)/python -m tests.cluster.node.prepare
	@$(BIN)/python -m pytest -m node_long tests/cluster/node -s $(ARGS)

cluster-up: .venv/.complete ## A real node with KServe and Envoy Gateway, until Ctrl-C (docs/cluster-tests.md)
	@$(BIN)/python -m tests.cluster.node.up

lint: .venv/.complete ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.complete ## Rewrite the code in our style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

verify: lint ## Lint, and check that what is generated or stated elsewhere is up to date
	@$(BIN)/python -m pytest -q tests/contract $(ARGS)

manifests: .venv/.complete ## Write CRDs, rules, and kustomize's base and overlays from the chart (helm is built for it)
	@$(BIN)/windlass manifests --out manifests
	@$(BIN)/windlass render --runtimes --out manifests/serving
	@$(BIN)/python -m monitoring.rules
	@$(BIN)/python -m monitoring.dashboards
	@$(BIN)/python -m manifests.generate

kind-up: ## A kind cluster with all that Windlass stands on, Windlass, and flights trained in it (docs/kind.md)
	@manifests/kind/up.sh

kind-down: ## Delete that cluster
	@kind delete cluster --name windlass

lock: ## Resolve the locks again (UPGRADE="--upgrade" takes newer versions)
	@uv=$$($(PYTHON) requirements/environment.py --uv-only) && set -x && \
	$$uv $(COMPILE) $(UPGRADE) --all-extras --group dev -o requirements/all.lock && \
	$$uv $(COMPILE) -c requirements/all.lock --extra local --extra flights --extra redis --extra operator --group dev \
		-o requirements/local.lock && \
	$$uv $(COMPILE) -c requirements/all.lock --extra local --extra flights --extra redis --extra postgres --group build \
		-o requirements/training.lock && \
	$$uv $(COMPILE) -c requirements/all.lock --extra serving-native --extra redis -o requirements/serving.lock && \
	$$uv $(COMPILE_FOR_TESTS) -c requirements/all.lock requirements/operator.in -o requirements/operator.lock && \
	$$uv $(COMPILE_FOR_TESTS) -c requirements/all.lock requirements/keras.in -o requirements/keras.lock && \
	$$uv $(COMPILE_FOR_TESTS) requirements/conformance.in -o requirements/conformance.lock && \
	$$uv $(COMPILE_FOR_TESTS) requirements/dvc.in -o requirements/dvc.lock && \
	$$uv $(COMPILE_FOR_TESTS) requirements/grafana.in -o requirements/grafana.lock && \
	$$uv $(COMPILE_FOR_TESTS) requirements/go.in -o requirements/go.lock

clean: ## Remove the environment, caches and local state
	rm -rf .venv .tools .windlass .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist demo-out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.complete: requirements/local.lock requirements/bootstrap.lock requirements/environment.py pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "make: Python 3.11 was not found; make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PYTHON) requirements/environment.py
