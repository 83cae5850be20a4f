{{/* A name for everything that belongs to this release. */}}
{{- define "contact-sync.name" -}}
{{- if contains "contact-sync" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-contact-sync" (.Release.Name | trunc 37 | trimSuffix "-") }}
{{- end -}}
{{- end }}

{{- define "contact-sync.selector" -}}
app.kubernetes.io/name: contact-sync
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "contact-sync.labels" -}}
{{ include "contact-sync.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "contact-sync.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end }}

{{/* What a pod may do: nothing that it need not. */}}
{{- define "contact-sync.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "contact-sync.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "contact-sync.databaseSecret" -}}
{{ required "database.secret: name the Secret that holds the address of PostgreSQL" .Values.database.secret }}
{{- end }}

{{/* A setting by its name in docs/operating.md, as a variable. Whole numbers stay whole. */}}
{{- define "contact-sync.variable" -}}
- name: CONTACT_SYNC_{{ .name | replace "." "__" | upper }}
  value: {{ if kindIs "float64" .value }}{{ int64 .value | toString | quote }}{{ else }}{{ .value | toString | quote }}{{ end }}
{{- end }}
