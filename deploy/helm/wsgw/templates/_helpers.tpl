{{/* The name of everything: the release's, with the chart's unless it has it. */}}
{{- define "wsgw.name" -}}
{{- $name := ternary .Release.Name (printf "%s-wsgw" .Release.Name) (contains "wsgw" .Release.Name) -}}
{{- $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "wsgw.selector" -}}
app.kubernetes.io/name: wsgw
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wsgw.labels" -}}
{{ include "wsgw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "wsgw.kind" -}}
{{ ternary "StatefulSet" "Deployment" .Values.persistence.enabled }}
{{- end -}}

{{- define "wsgw.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "wsgw.configMap" -}}
{{ .Values.existingConfigMap | default (printf "%s-pipeline" (include "wsgw.name" .)) }}
{{- end -}}

{{/* The Secret's name; empty if there is none. */}}
{{- define "wsgw.secret" -}}
{{- if .Values.secrets.existingSecret }}{{ .Values.secrets.existingSecret }}
{{- else if .Values.secrets.values }}{{ include "wsgw.name" . }}-secrets
{{- end -}}
{{- end -}}

{{/* How long a gateway takes to stop at most (docs/operations.md, Stopping and deploying), the pause before, and 5 s to spare. */}}
{{- define "wsgw.grace" -}}
{{- $drain := .Values.server.drainSeconds -}}
{{- add .Values.preStopSeconds (ceil (addf $drain (maxf $drain 7) 8)) 5 -}}
{{- end -}}

{{- define "wsgw.pod" -}}
metadata:
  labels:
    {{- include "wsgw.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    kubectl.kubernetes.io/default-container: wsgw
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  # Nothing here calls the Kubernetes API.
  automountServiceAccountToken: false
  # Else a Service named wsgw would put variables such as WSGW_PORT beside the gateway's own.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "wsgw.grace" . }}
  {{- with .Values.serviceAccountName }}
  serviceAccountName: {{ . | quote }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: wsgw
      image: {{ include "wsgw.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run]
      workingDir: /data
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      env:
        - { name: WS_MODE, value: {{ .Values.mode | quote }} }
        - { name: WSGW_PIPELINE, value: /etc/wsgw/config/wsgw.yaml }
        - { name: WSGW__SERVER__LISTEN, value: "0.0.0.0:8000" }
        - { name: WSGW__SERVER__INTERNAL_LISTEN, value: "0.0.0.0:8001" }
        # Takes changes of the ConfigMap and of the Secret.
        - { name: WSGW__SERVER__WATCH, value: "true" }
        {{- with .Values.server }}
        - { name: WSGW__SERVER__PATH, value: {{ .path | quote }} }
        - { name: WSGW__SERVER__DRAIN_SECONDS, value: {{ .drainSeconds | toString | quote }} }
        {{- if not (kindIs "invalid" .reconnectSpreadSeconds) }}
        - { name: WSGW__SERVER__RECONNECT_SPREAD_SECONDS, value: {{ .reconnectSpreadSeconds | toString | quote }} }
        {{- end }}
        {{- if not (kindIs "invalid" .maxConnections) }}
        - { name: WSGW__SERVER__MAX_CONNECTIONS, value: {{ .maxConnections | int64 | toString | quote }} }
        {{- end }}
        {{- with .allowedOrigins }}
        - { name: WSGW__SERVER__ALLOWED_ORIGINS, value: {{ join "," . | quote }} }
        {{- end }}
        {{- with .trustedProxies }}
        - { name: WSGW__SERVER__TRUSTED_PROXIES, value: {{ join "," . | quote }} }
        {{- end }}
        {{- end }}
        {{- if include "wsgw.secret" . }}
        {{- range include "wsgw.secretKeys" . | fromYamlArray }}
        - { name: {{ . }}_FILE, value: /etc/wsgw/secrets/{{ . }} }
        {{- end }}
        {{- end }}
        {{- range $name, $value := .Values.env }}
        - { name: {{ $name }}, value: {{ include "wsgw.text" $value | quote }} }
        {{- end }}
      ports:
        - { name: public, containerPort: 8000 }
        - { name: internal, containerPort: 8001 }
      startupProbe:
        httpGet: { path: /health, port: internal }
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /health, port: internal }
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: { path: {{ .Values.probes.readinessPath }}, port: internal }
        periodSeconds: 2
        timeoutSeconds: 2
      {{- if .Values.preStopSeconds }}
      lifecycle:
        preStop: { sleep: { seconds: {{ .Values.preStopSeconds }} } }
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        # Whole directories: what is mounted by subPath never changes.
        - { name: pipeline, mountPath: /etc/wsgw/config, readOnly: true }
        {{- if include "wsgw.secret" . }}
        - { name: secrets, mountPath: /etc/wsgw/secrets, readOnly: true }
        {{- end }}
        - { name: data, mountPath: /data }
  volumes:
    - name: pipeline
      configMap: { name: {{ include "wsgw.configMap" . | quote }} }
    {{- if include "wsgw.secret" . }}
    - name: secrets
      secret:
        secretName: {{ include "wsgw.secret" . | quote }}
        defaultMode: 0440
        items:
          {{- range include "wsgw.secretKeys" . | fromYamlArray }}
          - { key: {{ . }}, path: {{ . }} }
          {{- end }}
    {{- end }}
    {{- if not .Values.persistence.enabled }}
    - name: data
      emptyDir: { sizeLimit: 1Gi }
    {{- end }}
  {{- if .Values.topologySpread.enabled }}
  # So that the end of a node or a zone takes few of the clients with it.
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "wsgw.selector" $ | nindent 10 }}
      {{- if eq (include "wsgw.kind" $) "Deployment" }}
      matchLabelKeys: [pod-template-hash]
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* A number as it was written: Helm's own text of a million is 1e+06. */}}
{{- define "wsgw.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "wsgw.secretKeys" -}}
{{- if .Values.secrets.existingSecret }}
{{- $usual := list "GATEWAY_API_KEY" "JWT_PUBLIC_KEY" (ternary "REDIS_DSN" "SYMFONY_WEBHOOK_SECRET" (eq .Values.mode "core")) }}
{{- .Values.secrets.keys | default $usual | toYaml }}
{{- else }}{{ keys .Values.secrets.values | sortAlpha | toYaml }}
{{- end -}}
{{- end -}}

{{/* Refuses what could not work, with a reason. */}}
{{- define "wsgw.checks" -}}
{{- if and (eq .Values.mode "terminator") (or .Values.autoscaling.enabled (gt (int .Values.replicas) 1)) -}}
{{- fail "mode terminator is for one gateway, as a push by HTTP reaches the clients of one only: set replicas to 1 and autoscaling.enabled to false, or take mode core" -}}
{{- end -}}
{{- if and .Values.pipeline .Values.existingConfigMap -}}
{{- fail "pipeline and existingConfigMap are both set: which one is it?" -}}
{{- end -}}
{{- if and .Values.secrets.existingSecret .Values.secrets.values -}}
{{- fail "secrets.existingSecret and secrets.values are both set: which one is it?" -}}
{{- end -}}
{{- $secrets := include "wsgw.secretKeys" . | fromYamlArray -}}
{{- $own := dict "WS_MODE" "mode" "WSGW_PIPELINE" "pipeline" "WSGW_LISTEN" "" "WSGW_INTERNAL_LISTEN" "" -}}
{{- $own = merge $own (dict "WSGW__SERVER__LISTEN" "" "WSGW__SERVER__INTERNAL_LISTEN" "" "WSGW__SERVER__WATCH" "") -}}
{{- range list "path" "drainSeconds" "reconnectSpreadSeconds" "maxConnections" "allowedOrigins" "trustedProxies" -}}
{{- $_ := set $own (printf "WSGW__SERVER__%s" (snakecase . | upper)) (printf "server.%s" .) -}}
{{- end -}}
{{- range $name, $_ := .Values.env -}}
{{- if hasKey $own $name -}}
{{- fail (printf "env.%s is the chart's own: %s" $name (get $own $name | default "leave it out")) -}}
{{- end -}}
{{- if and (include "wsgw.secret" $) (has (trimSuffix "_FILE" $name) $secrets) -}}
{{- fail (printf "env.%s and secrets both give %s: which one is it?" $name (trimSuffix "_FILE" $name)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := .Values.podLabels -}}
{{- if hasKey (include "wsgw.labels" $ | fromYaml) $name -}}
{{- fail (printf "podLabels has %s, which is the chart's own" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.connections) (not .Values.autoscaling.cpuUtilization) -}}
{{- fail "autoscaling.enabled needs autoscaling.connections or autoscaling.cpuUtilization" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
