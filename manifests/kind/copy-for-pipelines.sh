#!/usr/bin/env bash
# Copies what the steps of pipelines find by name (docs/pipelines.md) from the platform's namespace to that of their runs.
# It may be repeated: what was changed is changed over there, what is not here is left out.
# usage: copy-for-pipelines.sh FROM TO [OPTIONS OF KUBECTL…]
set -euo pipefail
from=${1:?namespace of the platform} to=${2:?namespace of the runs}
shift 2

# without what belongs to the one object: its identity, its owner, its annotations
template='apiVersion: v1
kind: {{.kind}}
metadata: {name: {{.metadata.name}}, labels: {app.kubernetes.io/part-of: windlass}}
{{with .type}}type: {{.}}
{{end}}data:
{{range $key, $value := .data}}  {{printf "%q: %q" $key $value}}
{{end}}'
for object in configmap/windlass-pipeline secret/windlass-s3 secret/windlass-mlflow secret/windlass-signing-key secret/windlass-retrain-token; do
    copy=$(kubectl "$@" --namespace "$from" get "$object" --ignore-not-found --output "go-template=$template")
    [[ -z $copy ]] || kubectl "$@" --namespace "$to" apply --server-side --filename - <<<"$copy"
done
