{{/* What each part is asked by and asks. */}}

{{- define "windlass.models.ingress" }}
- from:
    {{- include "windlass.peer.namespace" .Values.gateway.proxyNamespace | nindent 4 }}
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- include "windlass.peer.named" .Values.prometheus | nindent 4 }}
    # serverless mode: the activator and the autoscaler
    {{- include "windlass.peer.namespace" "knative-serving" | nindent 4 }}
  # the server, its gRPC port, KServe's agent, Knative's queue proxy
  {{- include "windlass.ports" (list 8080 8081 9081 8012 8013 8022 9090 9091) | nindent 2 }}
{{- end }}

{{- define "windlass.models.egress" }}
{{- include "windlass.egress.collector" . }}
{{- include "windlass.egress.onlineStore" . }}
{{- $serving := include "windlass.serving" . | fromYaml }}
{{- $outside := false }}
{{- range $each := prepend (values ($serving.models | default dict)) $serving }}
{{- with $each.storage }}{{ $outside = or $outside (not (hasPrefix "pvc://" .)) }}{{ end }}
{{- end }}
{{- if $outside }}
{{ include "windlass.egress.external" . }}
{{- else }}
{{- include "windlass.egress.data" . }}
{{- end }}
{{- end }}

{{- define "windlass.training.egress" }}
{{- include "windlass.egress.mlflow" . }}
{{- include "windlass.egress.onlineStore" . }}
{{- include "windlass.egress.data" . }}
{{- end }}

{{- define "windlass.runs.egress" }}
{{- include "windlass.egress.apiServer" . }}
# its API by gRPC and HTTP, the metadata, and the artifacts' store by the ports of minio and SeaweedFS
- to:
    {{- include "windlass.peer.named" .Values.kubeflow | nindent 4 }}
  {{- include "windlass.ports" (list 8887 8888 8080 9000 8333) | nindent 2 }}
{{- end }}

{{- define "windlass.report.egress" }}
{{- if .Values.retrain.enabled }}
- to:
    {{- include "windlass.peer.part" (dict "root" . "name" "retrain") | nindent 4 }}
  {{- include "windlass.ports" (list 8080) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "windlass.operator.ingress" }}
{{- include "windlass.ingress.scrape" (dict "root" . "port" 8080) }}
- from:
    {{- include "windlass.peer.part" (dict "root" . "name" "test") | nindent 4 }}
  {{- include "windlass.ports" (list 8080) | nindent 2 }}
{{- end }}

{{- define "windlass.operator.egress" }}
{{- include "windlass.egress.apiServer" . }}
{{- include "windlass.egress.prometheus" . }}
{{- include "windlass.egress.collector" . }}
{{- include "windlass.egress.mlflow" . }}
{{- if .Values.retrain.enabled }}
- to:
    {{- include "windlass.peer.part" (dict "root" . "name" "retrain") | nindent 4 }}
  {{- include "windlass.ports" (list 8080) | nindent 2 }}
{{- end }}
# requests of a smoke test, to a version's own Service
- to:
    {{- include "windlass.peer.models" . | nindent 4 }}
  {{- include "windlass.ports" (list 8080) | nindent 2 }}
{{- end }}

{{- define "windlass.test.egress" }}
{{- if .Values.operator.enabled }}
{{- include "windlass.egress.apiServer" . }}
{{- end }}
- to:
    {{- include "windlass.peer.ours" . | nindent 4 }}
  {{- include "windlass.ports" (list 8080 8088 5000 6566) | nindent 2 }}
{{- end }}

{{- define "windlass.collector.ingress" }}
- from:
    {{- include "windlass.peer.models" . | nindent 4 }}
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- include "windlass.peer.named" .Values.prometheus | nindent 4 }}
    {{- include "windlass.peer.callers" . | trim | nindent 4 }}
  {{- include "windlass.ports" (list 8088) | nindent 2 }}
{{- end }}

{{- define "windlass.analysis.egress" }}
{{- include "windlass.egress.prometheus" . }}
{{- include "windlass.egress.data" . }}
{{- end }}

{{- define "windlass.materialize.egress" }}
{{- include "windlass.egress.onlineStore" . }}
{{- include "windlass.egress.data" . }}
{{- end }}

{{- define "windlass.retrain.ingress" }}
# Alertmanager sends, Prometheus scrapes; who sends events is among the callers; a pipeline's last task tells its end
- from:
    {{- include "windlass.peer.named" .Values.prometheus | nindent 4 }}
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- if .Values.kubeflow.url }}
    {{- include "windlass.peer.runs" . | trim | nindent 4 }}
    {{- end }}
    {{- include "windlass.peer.callers" . | trim | nindent 4 }}
  {{- include "windlass.ports" (list 8080) | nindent 2 }}
{{- end }}

{{- define "windlass.retrain.egress" }}
{{- include "windlass.egress.apiServer" . }}
{{- if .Values.kubeflow.url }}
- to:
    {{- include "windlass.peer.named" .Values.kubeflow | nindent 4 }}
  {{- include "windlass.ports" (list (include "windlass.port" .Values.kubeflow.url)) | nindent 2 }}
{{- end }}
{{- include "windlass.egress.mlflow" . }}
{{- include "windlass.egress.onlineStore" . }}
{{- include "windlass.egress.data" . }}
{{- end }}

{{- define "windlass.mlflow.ingress" }}
- from:
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- include "windlass.peer.runs" . | trim | nindent 4 }}
    {{- include "windlass.peer.callers" . | trim | nindent 4 }}
  {{- include "windlass.ports" (list 5000) | nindent 2 }}
{{- end }}

{{- define "windlass.mlflow.egress" }}
{{- if or .Values.objectStore.url .Values.mlflow.databaseSecret }}
{{- include "windlass.egress.external" . }}
{{- end }}
{{- end }}

{{- define "windlass.redis.ingress" }}
- from:
    {{- include "windlass.peer.models" . | nindent 4 }}
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- include "windlass.peer.runs" . | trim | nindent 4 }}
  {{- include "windlass.ports" (list 6379) | nindent 2 }}
{{- end }}

{{- define "windlass.features.ingress" }}
- from:
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- include "windlass.peer.callers" . | trim | nindent 4 }}
  {{- include "windlass.ports" (list 6566) | nindent 2 }}
{{- end }}

{{- define "windlass.features.egress" }}
{{- include "windlass.egress.onlineStore" . }}
{{- include "windlass.egress.data" . }}
{{- end }}

{{- define "windlass.ray.ingress" }}
# head and workers speak on ports that they choose
- from:
    {{- include "windlass.peer.part" (dict "root" . "name" "ray") | nindent 4 }}
- from:
    {{- include "windlass.peer.ours" . | nindent 4 }}
    {{- include "windlass.peer.runs" . | trim | nindent 4 }}
    {{- include "windlass.peer.callers" . | trim | nindent 4 }}
  {{- include "windlass.ports" (list 8265 10001) | nindent 2 }}
{{- end }}

{{- define "windlass.ray.egress" }}
- to:
    {{- include "windlass.peer.part" (dict "root" . "name" "ray") | nindent 4 }}
{{- include "windlass.egress.mlflow" . }}
{{- include "windlass.egress.data" . }}
{{- end }}
