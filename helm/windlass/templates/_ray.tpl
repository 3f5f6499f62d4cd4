{{- define "windlass.rayContainer" }}
image: {{ include "windlass.image" (dict "root" . "image" .Values.ray.image) }}
imagePullPolicy: IfNotPresent
env:
  - {name: HOME, value: /tmp}
  - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
resources:
  {{- toYaml .Values.ray.resources | nindent 2 }}
securityContext:
  {{- include "windlass.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
{{- end }}

{{- define "windlass.rayVolumes" }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 10Gi}
  # Ray's object store
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: 1Gi}
{{- end }}
