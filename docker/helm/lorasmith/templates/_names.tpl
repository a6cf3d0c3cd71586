{{- define "lorasmith.name" -}}
{{- if contains "lorasmith" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-lorasmith" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Of the pods of a part: (list $ "api") */ -}}
{{- define "lorasmith.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: lorasmith
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- if index . 1 }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}
{{- end -}}

{{- define "lorasmith.labels" -}}
{{- $root := index . 0 -}}
{{ include "lorasmith.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- /* (list $ "api") */ -}}
{{- define "lorasmith.image" -}}
{{- $root := index . 0 -}}
{{ printf "%slorasmith-%s:%s" $root.Values.images.prefix (index . 1) ($root.Values.images.tag | default $root.Chart.AppVersion) | quote }}
{{- end -}}

{{- define "lorasmith.serviceAccount" -}}{{ include "lorasmith.name" . }}{{- end -}}

{{- /* The name at which others reach the api; the loopback: nobody but this release. */ -}}
{{- define "lorasmith.publishedHost" -}}
{{- if .Values.ingress.enabled -}}{{ .Values.ingress.host }}
{{- else if .Values.gateway.enabled -}}{{ .Values.gateway.host }}
{{- else if eq .Values.api.service.type "ClusterIP" -}}127.0.0.1
{{- end -}}
{{- end -}}
