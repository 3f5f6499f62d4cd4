#!/usr/bin/env bash
# A kind cluster with everything that the loop has, and Windlass in it. Every step may be repeated; what is there stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=manifests/kind
# shellcheck source=manifests/kind/versions.env
source "$here/versions.env"

say() { printf '\n== %s\n' "$*" >&2; }

for program in docker kind kubectl helm git openssl; do
    command -v "$program" >/dev/null || { echo "error: $program is not on PATH; install it and repeat" >&2; exit 2; }
done
if [[ $(kind version) != *"$KIND_VERSION"* ]]; then
    echo "error: kind $KIND_VERSION is wanted, its node image is pinned; this is: $(kind version)" >&2
    exit 2
fi

say "The cluster"
kind get clusters | grep -qx windlass || kind create cluster --config kind-config.yaml --wait 5m
context=kind-windlass
kubectl() { command kubectl --context "$context" "$@"; }
helm() { command helm --kube-context "$context" "$@"; }
# a release by its chart: name, namespace, and what helm wants to know of it
chart() { helm upgrade --install "$1" "${@:3}" --namespace "$2" --create-namespace --wait --timeout 10m; }

say "Our images"
for image in operator training serving; do
    docker build --file "docker/$image.Dockerfile" --tag "windlass/$image:0.1.0" .
    kind load docker-image --name windlass "windlass/$image:0.1.0"
done

say "cert-manager $CERT_MANAGER_VERSION, Envoy Gateway $ENVOY_GATEWAY_VERSION, KServe $KSERVE_VERSION"
chart cert-manager cert-manager oci://quay.io/jetstack/charts/cert-manager --version "$CERT_MANAGER_VERSION" --set crds.enabled=true
chart eg envoy-gateway-system oci://docker.io/envoyproxy/gateway-helm --version "$ENVOY_GATEWAY_VERSION" --values "$here/envoy-gateway.yaml"
kubectl apply --server-side -f "$here/envoy-gateway-proxy.yaml"
chart kserve-crd kserve oci://ghcr.io/kserve/charts/kserve-crd --version "$KSERVE_VERSION"
chart kserve kserve oci://ghcr.io/kserve/charts/kserve-resources --version "$KSERVE_VERSION" --values "$here/kserve.yaml"

say "What is secret, made once"
kubectl apply --server-side -f manifests/overlays/kind/namespace.yaml
kubectl create namespace monitoring --dry-run=client -o yaml | kubectl apply --server-side -f -
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
if ! kubectl -n windlass get secret windlass-signing-key >/dev/null 2>&1; then
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$secrets/signing.pem"
    openssl pkey -in "$secrets/signing.pem" -pubout -out "$secrets/verify.pem"
    kubectl -n windlass create secret generic windlass-signing-key --from-file="$secrets/signing.pem" --from-file="$secrets/verify.pem"
    kubectl -n windlass create configmap windlass-verify-key --from-file="$secrets/verify.pem"
fi
if ! kubectl -n windlass get secret windlass-retrain-token >/dev/null 2>&1; then
    openssl rand -hex 32 >"$secrets/token"
    for namespace in windlass monitoring; do
        kubectl -n "$namespace" create secret generic windlass-retrain-token --from-file="$secrets/token"
    done
fi

say "kube-prometheus-stack $KUBE_PROMETHEUS_STACK_VERSION, Kubeflow Pipelines $KUBEFLOW_PIPELINES_VERSION"
chart kube-prometheus-stack monitoring oci://ghcr.io/prometheus-community/charts/kube-prometheus-stack \
    --version "$KUBE_PROMETHEUS_STACK_VERSION" --values "$here/kube-prometheus-stack.yaml"
pipelines=github.com/kubeflow/pipelines/manifests/kustomize
kubectl apply --server-side -k "$pipelines/cluster-scoped-resources?ref=$KUBEFLOW_PIPELINES_VERSION"
kubectl wait --for=condition=established --timeout=60s crd/applications.app.k8s.io
kubectl apply --server-side -k "$pipelines/env/platform-agnostic?ref=$KUBEFLOW_PIPELINES_VERSION"
kubectl -n kubeflow wait --for=condition=Available --timeout=15m deployment/ml-pipeline

say "Windlass"
# not --wait: that waits for claims as well, and kind binds one when a pod first uses it, a model's training here
helm upgrade --install windlass helm/windlass --namespace windlass --values helm/windlass/values-kind.yaml
for workload in $(kubectl -n windlass get deployments,statefulsets -l app.kubernetes.io/part-of=windlass -o name); do
    kubectl -n windlass rollout status "$workload" --timeout=10m
done
# steps of pipelines run over there
"$here/copy-for-pipelines.sh" windlass kubeflow --context "$context"
helm test windlass --namespace windlass

say "The flights sample: a first version"
kubectl apply --server-side -f "$here/train-flights.yaml"
kubectl -n windlass wait --for=condition=Complete --timeout=60m job/train-flights

cat <<'END'

Windlass runs in the kind cluster "windlass". Next:
  kubectl -n windlass logs job/train-flights -c train           what the first version is worth
  docs/install/using.md                                         a second version, which a release compares with it
  kubectl -n windlass apply -f manifests/samples/release-first.yaml
  kubectl -n windlass get releases --watch
  curl 127.0.0.1:8080/v2/models/flights                         through the gateway, once the release has made its route
  kubectl -n monitoring port-forward service/kube-prometheus-stack-grafana 3000:80
  make kind-down                                                take it all away
END
