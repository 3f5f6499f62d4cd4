{{/* What the parts share. A part is called with (dict "root" $ "name" "collector" "part" .Values.collector). */}}

{{- define "windlass.fullname" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}

{{- define "windlass.name" -}}
{{ include "windlass.fullname" .root }}-{{ .name }}
{{- end -}}

{{/* What a selector goes by: it must not change with a version. */}}
{{- define "windlass.selector" -}}
app.kubernetes.io/name: {{ include "windlass.name" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "windlass.labels" -}}
{{ include "windlass.selector" . }}
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/part-of: windlass
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "windlass.metadata" -}}
name: {{ include "windlass.name" . }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "windlass.labels" . | nindent 2 }}
{{- end -}}

{{/* Labels of a pod; no version among them, so that an upgrade which changes nothing else restarts nothing. */}}
{{- define "windlass.podLabels" -}}
{{ include "windlass.selector" . }}
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/part-of: windlass
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "image" .Values.x.image) */}}
{{- define "windlass.image" -}}
{{- if and .root.Values.requireDigests (not .image.digest) }}
{{- fail (printf "image %s has no digest, and requireDigests is set: give its image.digest, sha256:… (skopeo inspect docker://%s:%s)" .image.repository .image.repository .image.tag) }}
{{- end }}
{{- if not (regexMatch "^([^/]*[.:][^/]*|localhost)/" .image.repository) }}
{{- with .root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}
{{- end -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag }}{{ end }}
{{- end -}}

{{- define "windlass.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "windlass.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The head of a pod's spec; "priority" is one of control, serving, batch, "api" says that it talks to the API server. */}}
{{- define "windlass.pod" -}}
serviceAccountName: {{ include "windlass.name" . }}
automountServiceAccountToken: {{ .api | default false }}
enableServiceLinks: false
securityContext:
  {{- include "windlass.podSecurity" . | nindent 2 }}
{{- with index .root.Values.priorityClasses (.priority | default "control") }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .part.nodeSelector | default .root.Values.scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations | default .root.Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "windlass.affinity" . | fromYaml }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What the values say, and beside it what the part itself needs (.affinity): a volume is where it is. */}}
{{- define "windlass.affinity" -}}
{{- $affinity := .part.affinity | default .root.Values.scheduling.affinity | deepCopy }}
{{- range $kind, $needed := .affinity }}
{{- $stated := get $affinity $kind | default dict }}
{{- range $when, $terms := $needed }}
{{- $_ := set $stated $when (concat (get $stated $when | default list) $terms) }}
{{- end }}
{{- $_ := set $affinity $kind $stated }}
{{- end }}
{{- toYaml $affinity -}}
{{- end -}}

{{/* Replicas on several nodes, where there are several. */}}
{{- define "windlass.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "windlass.selector" . | nindent 8 }}
{{- end -}}

{{- define "windlass.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "windlass.metadata" . | nindent 2 }}
  {{- with .part.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
# a pod that talks to the API server says so itself
automountServiceAccountToken: false
{{- end -}}

{{- define "windlass.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .claim }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "windlass.labels" . | nindent 4 }}
  {{- if .volume.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
  accessModes: [{{ .volume.accessMode }}]
  {{- with .volume.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .volume.size }}
{{- end -}}

{{/* Where the collector's store lies. */}}
{{- define "windlass.store" -}}
{{ .Values.collector.volume.existingClaim | default (printf "%s-monitoring-home" (include "windlass.fullname" .)) }}
{{- end -}}

{{/* Affinity of what mounts that store, where one node at a time may: the collector's node. Without a collector the node of
     whoever has it; the first of them goes where it likes, since a pod that selects itself is let in where there is none. */}}
{{- define "windlass.besideCollector" -}}
{{- if and .Values.collector.enabled (eq .Values.collector.volume.accessMode "ReadWriteOncePod") }}
{{- fail "collector.volume.accessMode ReadWriteOncePod lets no pod but the collector's mount its store, and analyses and features' jobs do: state ReadWriteOnce or ReadWriteMany" }}
{{- end }}
{{- if ne .Values.collector.volume.accessMode "ReadWriteMany" }}
podAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        {{- if .Values.collector.enabled }}
        matchLabels:
          {{- include "windlass.selector" (dict "root" . "name" "collector") | nindent 10 }}
        {{- else }}
        {{- include "windlass.readersOfTheStore" . | nindent 8 }}
        {{- end }}
{{- end }}
{{- end -}}

{{- define "windlass.readersOfTheStore" -}}
matchLabels: {app.kubernetes.io/instance: {{ .Release.Name }}, app.kubernetes.io/part-of: windlass}
matchExpressions:
  - {key: app.kubernetes.io/component, operator: In, values: [analysis, analysis-metrics, materialize]}
{{- end -}}

{{/* The collector's own: a pod that has the store already would keep it from another node, and the collector from its store. */}}
{{- define "windlass.besideReaders" -}}
{{- if ne .Values.collector.volume.accessMode "ReadWriteMany" }}
podAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          {{- include "windlass.readersOfTheStore" . | nindent 10 }}
{{- end }}
{{- end -}}

{{/* Name of a workload's CronJob: (dict "part" $part "workload" NAME "all" $all), $all being an empty dict that remembers the
names. Its Jobs' names are 11 characters longer. A workload's name may have `_`, which no object's may. */}}
{{- define "windlass.cronJob" -}}
{{- $name := printf "%s-%s" (include "windlass.name" .part) (replace "_" "-" .workload) }}
{{- if hasKey .all $name }}
{{- fail (printf "the workloads %s and %s would both have the CronJob %s: leave one out, or rename it" (get .all $name) .workload $name) }}
{{- end }}
{{- $_ := set .all $name .workload }}
{{- if gt (len $name) 52 }}
{{- fail (printf "the CronJob %s would have a name of %d characters, and Kubernetes takes 52: shorten fullnameOverride (%s) or the name of the workload (%s)" $name (len $name) (include "windlass.fullname" .part.root) .workload) }}
{{- end }}
{{- $name -}}
{{- end -}}

{{- define "windlass.mlflow" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "windlass.fullname" . }}-mlflow:5000
{{- else -}}
{{ .Values.mlflow.url }}
{{- end -}}
{{- end -}}

{{/* Who carries the Gateway out; empty where nobody says and its class does not tell. */}}
{{- define "windlass.gatewayController" -}}
{{- if .Values.gateway.controllerName -}}
{{ .Values.gateway.controllerName }}
{{- else if or .Values.gateway.createClass (eq .Values.gateway.className "envoy-gateway") -}}
gateway.envoyproxy.io/gatewayclass-controller
{{- end -}}
{{- end -}}

{{/* The collector that model servers send to and the operator asks; empty where there is none. */}}
{{- define "windlass.collector" -}}
{{- if .Values.operator.collectorUrl -}}
{{ .Values.operator.collectorUrl }}
{{- else if .Values.collector.enabled -}}
http://{{ include "windlass.fullname" . }}-collector:8088
{{- end -}}
{{- end -}}

{{/* Environment of whatever reads or writes data: object store and online store. */}}
{{- define "windlass.dataEnv" -}}
{{- with .Values.objectStore -}}
{{- if .url }}
- {name: WINDLASS_OBJECT_STORE, value: {{ .url | quote }}}
{{- if .endpoint }}
- {name: WINDLASS_S3_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: MLFLOW_S3_ENDPOINT_URL, value: {{ .endpoint | quote }}}
{{- end }}
{{- if .region }}
- {name: AWS_DEFAULT_REGION, value: {{ .region | quote }}}
{{- end }}
{{- if .existingSecret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.objectStore.existingSecret }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "windlass.hasOnlineStore" -}}
{{- if or .Values.onlineStore.existingSecret .Values.onlineStore.url .Values.redis.enabled }}true{{ end -}}
{{- end -}}

{{/* The Secret with the address of the online store. */}}
{{- define "windlass.onlineSecret" -}}
{{ .Values.onlineStore.existingSecret | default (printf "%s-online-store" (include "windlass.fullname" .)) }}
{{- end -}}

{{/* Environment of the online store. */}}
{{- define "windlass.onlineEnv" -}}
{{- if include "windlass.hasOnlineStore" . }}
- {name: WINDLASS_ONLINE_STORE, value: redis}
- name: WINDLASS_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ include "windlass.onlineSecret" . }}, key: {{ .Values.onlineStore.key }}}}
{{- end }}
{{- end -}}

{{/* The claim that bundles lie on; empty where no model's storage is on it. */}}
{{- define "windlass.modelsClaim" -}}
{{- $name := .Values.models.volume.name }}
{{- $serving := include "windlass.serving" . | fromYaml }}
{{- $used := false }}
{{- range $each := prepend (values ($serving.models | default dict)) $serving }}
{{- with $each.storage }}{{ $used = or $used (hasPrefix (printf "pvc://%s/" $name) .) }}{{ end }}
{{- end }}
{{- if and $name $used }}{{ $name }}{{ end -}}
{{- end -}}

{{/* The public key that bundles are verified by, that of the model servers, as a volume. */}}
{{- define "windlass.verifyVolume" -}}
{{- $key := .Values.operator.serving.verifyKey | default dict }}
{{- $items := list (dict "key" ($key.key | default "verify.pem") "path" "verify.pem") | toJson }}
- name: verify
  {{- if $key.secret }}
  secret: {secretName: {{ $key.secret }}, items: {{ $items }}, defaultMode: 0440, optional: true}
  {{- else }}
  configMap: {name: {{ $key.configMap | default "windlass-verify-key" }}, items: {{ $items }}, optional: true}
  {{- end }}
{{- end -}}

{{/* How versions are served: what is stated, and what follows from the other parts of the chart where nothing is. */}}
{{- define "windlass.serving" -}}
{{- $found := dict "serviceAccount" (include "windlass.name" (dict "root" . "name" "models")) }}
{{- if .Values.objectStore.url }}
{{- /* where a version that is registered with this object store has its bundle; version 1 begins no other's with the slash */}}
{{- $_ := set $found "storage" (printf "%s/models/{model}/{version}/" (trimSuffix "/" .Values.objectStore.url)) }}
{{- else if .Values.models.volume.name }}
{{- $_ := set $found "storage" (printf "pvc://%s/{model}/{version}" .Values.models.volume.name) }}
{{- end }}
{{- with .Values.priorityClasses.serving }}{{ $_ := set $found "priorityClass" . }}{{ end }}
{{- with .Values.imagePullSecrets }}{{ $_ := set $found "imagePullSecrets" . }}{{ end }}
{{- with .Values.scheduling.nodeSelector }}{{ $_ := set $found "nodeSelector" . }}{{ end }}
{{- with .Values.scheduling.tolerations }}{{ $_ := set $found "tolerations" . }}{{ end }}
{{- with include "windlass.collector" . }}{{ $_ := set $found "payload" (dict "url" (printf "%s/" (trimSuffix "/" .))) }}{{ end }}
{{- if include "windlass.hasOnlineStore" . }}
{{- $_ := set $found "online" (dict "secret" (include "windlass.onlineSecret" .) "key" .Values.onlineStore.key) }}
{{- end }}
{{- $found = mergeOverwrite $found (deepCopy .Values.operator.serving) }}
{{- if and .Values.operator.enabled (not $found.storage) }}
{{- fail "nobody says where bundles lie: set operator.serving.storage to an address with {model} and {version}, for example s3://models/{model}/{version}, or objectStore.url or models.volume.name" }}
{{- end }}
{{- toYaml $found -}}
{{- end -}}

{{- define "windlass.gatewayNamespace" -}}
{{- if .Values.gateway.create }}{{ .Release.Namespace }}{{ else }}{{ .Values.gateway.namespace | default .Release.Namespace }}{{ end -}}
{{- end -}}

{{/* Port of an address; that of its scheme where it names none. */}}
{{- define "windlass.port" -}}
{{- $found := urlParse . -}}
{{- $named := regexFind ":[0-9]+$" $found.host -}}
{{- if $named }}{{ trimPrefix ":" $named }}{{ else if eq $found.scheme "https" }}443{{ else if hasPrefix "redis" $found.scheme }}6379{{ else }}80{{ end -}}
{{- end -}}
