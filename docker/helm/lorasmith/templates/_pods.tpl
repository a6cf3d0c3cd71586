{{- define "lorasmith.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "lorasmith.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- /*
The fields of a pod that all parts share, after its own selector of nodes.
(list $ "component" <pods of its values> <priority: services|workers> <seconds to end>)
*/ -}}
{{- define "lorasmith.podFields" -}}
{{- $root := index . 0 -}}
{{- $pods := index . 2 -}}
serviceAccountName: {{ include "lorasmith.serviceAccount" $root }}
# No pod calls Kubernetes.
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ index . 4 }}
{{- with $root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- if $root.Values.priorityClasses.create }}
priorityClassName: {{ include "lorasmith.name" $root }}-{{ index . 3 }}
{{- end }}
{{- with $pods.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $pods.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $pods.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "lorasmith.selector" (list $root (index . 1)) | nindent 8 }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "lorasmith.selector" (list $root (index . 1)) | nindent 8 }}
{{- end -}}

{{- /* /live and /ready of a service that others may ask: (list "port" <seconds to start>) */ -}}
{{- define "lorasmith.probes" -}}
startupProbe:
  httpGet: { path: /live, port: {{ index . 0 }} }
  periodSeconds: 5
  timeoutSeconds: 15
  failureThreshold: {{ div (index . 1) 5 }}
livenessProbe:
  httpGet: { path: /live, port: {{ index . 0 }} }
  periodSeconds: 20
  timeoutSeconds: 15
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /ready, port: {{ index . 0 }} }
  periodSeconds: 10
  timeoutSeconds: 15
  failureThreshold: 3
{{- end -}}

{{- /* (list $ <models may be written>) */ -}}
{{- define "lorasmith.mounts" -}}
{{- $root := index . 0 -}}
- { name: data, mountPath: /data }
{{- if eq $root.Values.store.kind "local" }}
- { name: models, mountPath: /models, readOnly: {{ not (index . 1) }} }
{{- end }}
- { name: scratch, mountPath: /tmp }
{{- if and (not $root.Values.redis.internal.enabled) $root.Values.redis.external.caSecret }}
- { name: redis-ca, mountPath: /run/secrets/redis-ca, readOnly: true }
{{- end }}
{{- end -}}

{{- /* (list $ <size of /tmp>) */ -}}
{{- define "lorasmith.volumes" -}}
{{- $root := index . 0 -}}
{{- $name := include "lorasmith.name" $root -}}
{{- $values := $root.Values -}}
{{- if eq $values.store.kind "local" }}
- name: data
  persistentVolumeClaim: { claimName: {{ $values.store.local.existingClaim | default (printf "%s-data" $name) }} }
- name: models
  persistentVolumeClaim: { claimName: {{ $values.models.existingClaim | default (printf "%s-models" $name) }} }
{{- else }}
# Copies of what is in the bucket, and work in progress. It ends with the pod.
- name: data
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- if not (kindIs "invalid" $values.store.s3.cache.className) }}
        storageClassName: {{ $values.store.s3.cache.className | quote }}
        {{- end }}
        resources: { requests: { storage: {{ $values.store.s3.cache.size }} } }
{{- end }}
- name: scratch
  emptyDir: { sizeLimit: {{ index . 1 }} }
{{- if and (not $values.redis.internal.enabled) $values.redis.external.caSecret }}
- name: redis-ca
  secret: { secretName: {{ $values.redis.external.caSecret.name }} }
{{- end }}
{{- end -}}
