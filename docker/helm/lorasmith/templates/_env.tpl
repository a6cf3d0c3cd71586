{{- /* A value of the environment as text. YAML's numbers are floats, which Go would print as 1e+11. */ -}}
{{- define "lorasmith.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- /* The settings of a service as a list of variables: (list $ <settings of the service> <what the chart itself sets>) */ -}}
{{- define "lorasmith.env" -}}
{{- $root := index . 0 -}}
{{- $all := dict -}}
{{- range $settings := list $root.Values.settings (index . 1) (index . 2) -}}
{{- range $name, $value := $settings -}}
{{- $_ := set $all $name $value -}}
{{- end -}}
{{- end -}}
{{- range $name := keys $all | sortAlpha }}
- name: {{ $name }}
  value: {{ include "lorasmith.text" (get $all $name) | quote }}
{{- end }}
{{- end -}}

{{- /* A variable from a Secret: (list "HF_TOKEN" {name, key}) */ -}}
{{- define "lorasmith.secretEnv" -}}
{{- if index . 1 }}
- name: {{ index . 0 }}
  valueFrom: { secretKeyRef: { name: {{ (index . 1).name }}, key: {{ (index . 1).key }} } }
{{- end }}
{{- end -}}

{{- /* What every service is told: folders, store, time to end. (list $ <seconds to end>) as YAML */ -}}
{{- define "lorasmith.ownSettings" -}}
{{- $root := index . 0 -}}
DATA_DIR: /data
MODELS_DIR: /models
SHUTDOWN_TIMEOUT_MS: {{ mul 1000 (index . 1) | quote }}
STORE: {{ $root.Values.store.kind }}
{{- if eq $root.Values.store.kind "s3" }}
{{- with $root.Values.store.s3 }}
S3_BUCKET: {{ .bucket | quote }}
S3_ENDPOINT: {{ .endpoint | quote }}
S3_REGION: {{ .region | quote }}
S3_PREFIX: {{ .prefix | quote }}
S3_FORCE_PATH_STYLE: {{ .forcePathStyle | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lorasmith.storeSecrets" -}}
{{- if and (eq .Values.store.kind "s3") .Values.store.s3.credentialsSecret }}
{{- range $name := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
{{- include "lorasmith.secretEnv" (list $name (dict "name" $.Values.store.s3.credentialsSecret "key" $name)) }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* REDIS_URL and REDIS_CA_FILE */ -}}
{{- define "lorasmith.redisEnv" -}}
{{- if .Values.redis.internal.enabled }}
{{- if .Values.redis.internal.passwordSecret }}
{{- include "lorasmith.secretEnv" (list "REDIS_PASSWORD" .Values.redis.internal.passwordSecret) }}
- name: REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "lorasmith.name" . }}-redis:6379
{{- else }}
- name: REDIS_URL
  value: redis://{{ include "lorasmith.name" . }}-redis:6379
{{- end }}
{{- else }}
{{- include "lorasmith.secretEnv" (list "REDIS_URL" .Values.redis.external.urlSecret) }}
{{- if .Values.redis.external.caSecret }}
- name: REDIS_CA_FILE
  value: /run/secrets/redis-ca/{{ .Values.redis.external.caSecret.key }}
{{- end }}
{{- end }}
{{- end -}}
