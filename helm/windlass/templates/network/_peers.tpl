{{/* Whole rules and single peers of NetworkPolicies. */}}

{{- define "windlass.peer.namespace" -}}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ . }}}
{{- end -}}

{{- define "windlass.peer.cidrs" -}}
{{- range $index, $cidr := . }}
{{- if $index }}
{{ end -}}
- ipBlock: {cidr: {{ $cidr | quote }}}
{{- end }}
{{- end -}}

{{/* Somebody else's part, in its namespace or at addresses outside of the cluster: (dict "namespace" "x" "cidrs" (list …)). */}}
{{- define "windlass.peer.named" -}}
{{ include "windlass.peer.namespace" .namespace }}
{{- with .cidrs }}
{{ include "windlass.peer.cidrs" . }}
{{- end }}
{{- end -}}

{{- define "windlass.peer.part" -}}
- podSelector:
    matchLabels:
      {{- include "windlass.selector" . | nindent 6 }}
{{- end -}}

{{/* Every pod of ours, jobs included. */}}
{{- define "windlass.peer.ours" -}}
- podSelector:
    matchLabels: {app.kubernetes.io/part-of: windlass}
{{- end -}}

{{/* Whether pipelines run in this namespace; empty where they do not. */}}
{{- define "windlass.runsHere" -}}
{{- if and .Values.kubeflow.url (eq .Values.kubeflow.runNamespace .Release.Namespace) }}true{{ end -}}
{{- end -}}

{{/* Steps of pipelines; those that run in this namespace are ours. */}}
{{- define "windlass.peer.runs" -}}
{{- if not (include "windlass.runsHere" .) }}
{{- include "windlass.peer.named" (dict "namespace" (.Values.kubeflow.runNamespace | default .Values.kubeflow.namespace) "cidrs" .Values.kubeflow.cidrs) }}
{{- end }}
{{- end -}}

{{- define "windlass.peer.models" -}}
- podSelector:
    matchExpressions:
      - {key: serving.kserve.io/inferenceservice, operator: Exists}
{{- end -}}

{{- define "windlass.peer.callers" -}}
{{- range .Values.networkPolicies.callers }}
{{ include "windlass.peer.namespace" . }}
{{- end }}
{{- end -}}

{{- define "windlass.ports" -}}
ports:
  {{- range . }}
  - {protocol: TCP, port: {{ int . }}}
  {{- end }}
{{- end -}}

{{- define "windlass.egress.apiServer" -}}
- to:
    {{- include "windlass.peer.cidrs" .Values.networkPolicies.apiServer.cidrs | nindent 4 }}
  {{- include "windlass.ports" .Values.networkPolicies.apiServer.ports | nindent 2 }}
{{- end -}}

{{- define "windlass.egress.external" -}}
{{- $ports := .Values.networkPolicies.external.ports }}
{{- with .Values.objectStore.endpoint }}{{ $ports = append $ports (include "windlass.port" . | int) | uniq }}{{ end }}
- to:
    {{- include "windlass.peer.cidrs" .Values.networkPolicies.external.cidrs | nindent 4 }}
  {{- include "windlass.ports" $ports | nindent 2 }}
{{- end -}}

{{- define "windlass.egress.prometheus" -}}
{{- if .Values.prometheus.url }}
- to:
    {{- include "windlass.peer.named" .Values.prometheus | nindent 4 }}
  {{- include "windlass.ports" (list (include "windlass.port" .Values.prometheus.url)) | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "windlass.egress.mlflow" -}}
{{- if .Values.mlflow.enabled }}
- to:
    {{- include "windlass.peer.part" (dict "root" . "name" "mlflow") | nindent 4 }}
  {{- include "windlass.ports" (list 5000) | nindent 2 }}
{{- else if .Values.mlflow.url }}
- to:
    {{- include "windlass.peer.named" .Values.mlflow | nindent 4 }}
  {{- include "windlass.ports" (list (include "windlass.port" .Values.mlflow.url)) | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "windlass.egress.onlineStore" -}}
{{- if .Values.redis.enabled }}
- to:
    {{- include "windlass.peer.part" (dict "root" . "name" "redis") | nindent 4 }}
  {{- include "windlass.ports" (list 6379) | nindent 2 }}
{{- else if or .Values.onlineStore.url .Values.onlineStore.existingSecret }}
{{- $ports := list 6379 }}
{{- with .Values.onlineStore.url }}{{ $ports = list (include "windlass.port" .) }}{{ end }}
- to:
    {{- include "windlass.peer.cidrs" .Values.networkPolicies.external.cidrs | nindent 4 }}
  {{- include "windlass.ports" $ports | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "windlass.egress.data" -}}
{{- if .Values.objectStore.url }}
{{ include "windlass.egress.external" . }}
{{- end }}
{{- end -}}

{{- define "windlass.egress.collector" -}}
{{- if .Values.operator.collectorUrl }}
- to:
    {{- include "windlass.peer.namespace" (.Values.operator.collectorNamespace | default .Release.Namespace) | nindent 4 }}
  {{- include "windlass.ports" (list (include "windlass.port" .Values.operator.collectorUrl)) | nindent 2 }}
{{- else if .Values.collector.enabled }}
- to:
    {{- include "windlass.peer.part" (dict "root" . "name" "collector") | nindent 4 }}
  {{- include "windlass.ports" (list 8088) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Prometheus scrapes. */}}
{{- define "windlass.ingress.scrape" -}}
- from:
    {{- include "windlass.peer.named" .root.Values.prometheus | nindent 4 }}
  {{- include "windlass.ports" (list .port) | nindent 2 }}
{{- end -}}

{{/* The policy of one part: (dict "root" $ "name" "x" "ingress" TEXT "egress" TEXT). */}}
{{- define "windlass.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "windlass.metadata" . | nindent 2 }}
spec:
  podSelector:
    {{- if .selector }}
    {{- .selector | nindent 4 }}
    {{- else }}
    matchLabels:
      {{- include "windlass.selector" . | nindent 6 }}
    {{- end }}
  {{- $ingress := .ingress | default "" | trim }}
  {{- $egress := .egress | default "" | trim }}
  policyTypes: [Ingress, Egress]
  {{- with $ingress }}
  ingress:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $egress }}
  egress:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}
