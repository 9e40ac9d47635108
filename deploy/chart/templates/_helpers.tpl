{{- define "stepfleet.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels by which a Deployment knows its pods: they never change. Takes root and component. */}}
{{- define "stepfleet.selector" -}}
app.kubernetes.io/name: stepfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "stepfleet.labels" -}}
{{ include "stepfleet.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* The Redis of a component: what it says itself goes before what all have. */}}
{{- define "stepfleet.redis" -}}
{{- mergeOverwrite (deepCopy .root.Values.redis) (deepCopy (.own.redis | default dict)) | toYaml -}}
{{- end -}}

{{- define "stepfleet.url" -}}
{{- if .passwordSecret.name -}}
{{- printf "%s%spassword_file=/etc/stepfleet/redis/password" .url (ternary "&" "?" (contains "?" .url)) -}}
{{- else -}}
{{- .url -}}
{{- end -}}
{{- end -}}

{{- define "stepfleet.env" -}}
{{- $redis := include "stepfleet.redis" . | fromYaml -}}
- name: STEPFLEET_REDIS
{{- if $redis.urlSecret.name }}
  valueFrom:
    secretKeyRef: {name: {{ $redis.urlSecret.name }}, key: {{ $redis.urlSecret.key }}}
{{- else }}
  value: {{ include "stepfleet.url" $redis | quote }}
{{- end }}
- name: STEPFLEET_NAMESPACE
  value: {{ .root.Values.namespace | quote }}
- name: STEPFLEET_HEALTH
  value: "{{ .root.Values.healthAddress }}:{{ .root.Values.healthPort }}"
- name: STEPFLEET_LOG_FORMAT
  value: {{ .root.Values.logFormat | quote }}
{{- if .root.Values.metricsTokenSecret.name }}
- name: STEPFLEET_METRICS_TOKEN_FILE
  value: /etc/stepfleet/metrics/token
{{- end }}
{{- with .own.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stepfleet.volumeMounts" -}}
{{- $redis := include "stepfleet.redis" . | fromYaml -}}
{{- if $redis.passwordSecret.name }}
- {name: redis-password, mountPath: /etc/stepfleet/redis, readOnly: true}
{{- end }}
{{- if .root.Values.metricsTokenSecret.name }}
- {name: metrics-token, mountPath: /etc/stepfleet/metrics, readOnly: true}
{{- end }}
{{- with .own.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stepfleet.volumes" -}}
{{- $redis := include "stepfleet.redis" . | fromYaml -}}
{{- if $redis.passwordSecret.name }}
- name: redis-password
  secret:
    secretName: {{ $redis.passwordSecret.name }}
    items: [{key: {{ $redis.passwordSecret.key }}, path: password}]
{{- end }}
{{- with .root.Values.metricsTokenSecret }}
{{- if .name }}
- name: metrics-token
  secret:
    secretName: {{ .name }}
    items: [{key: {{ .key }}, path: token}]
{{- end }}
{{- end }}
{{- with .own.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What every pod has, but for its container's name, image and command. */}}
{{- define "stepfleet.container" -}}
imagePullPolicy: {{ .own.image.pullPolicy | default "IfNotPresent" }}
{{- with .root.Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: health, containerPort: {{ .root.Values.healthPort }}}
# It waits for its Redis by itself: only a process whose tasks have ended is to be restarted.
startupProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
{{- with .own.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "stepfleet.volumeMounts" . | trim }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stepfleet.pod" -}}
# It calls nothing of Kubernetes.
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "stepfleet.volumes" . | trim }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- with .own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
# One node that goes should not take all of them.
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "stepfleet.selector" . | nindent 8 }}
{{- end -}}
