{{/* Image of one part: {{ include "railhead.image" (list . "operator") }} */}}
{{- define "railhead.image" -}}
{{- $root := index . 0 -}}
{{- $repository := required "image.repository is required: where the images `operator` and `agent` lie, for example --set image.repository=registry.example.com/railhead" $root.Values.image.repository -}}
{{- printf "%s/%s:%s" (trimSuffix "/" $repository) (index . 1) (default $root.Chart.AppVersion $root.Values.image.tag) -}}
{{- end -}}

{{/* Labels that a selector uses: {{ include "railhead.selector" "operator" }} */}}
{{- define "railhead.selector" -}}
app.kubernetes.io/name: railhead
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{/* Labels of every object: {{ include "railhead.labels" (list . "operator") }} */}}
{{- define "railhead.labels" -}}
{{- $root := index . 0 -}}
{{ include "railhead.selector" (index . 1) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end -}}

{{/* User name of one of Railhead's service accounts, as a CEL string: {{ include "railhead.user" (list . "agent") }} */}}
{{- define "railhead.user" -}}
'system:serviceaccount:{{ (index . 0).Release.Namespace }}:railhead-{{ index . 1 }}'
{{- end -}}

{{/* The folder of the node that is mounted for the CNI binary: above the runtime's, but never one of the root's own. */}}
{{- define "railhead.cniBinariesMount" -}}
{{- $paths := .Values.agent.paths -}}
{{- $mount := $paths.cniBinariesMount -}}
{{- if not $mount -}}
{{- $above := dir $paths.cniBinaries -}}
{{- $mount = ternary $above $paths.cniBinaries (gt (len (splitList "/" $above)) 2) -}}
{{- end -}}
{{- include "railhead.holds" (list "cniBinariesMount" $mount "cniBinaries" $paths.cniBinaries) -}}
{{- $mount -}}
{{- end }}

{{/* The folder of the node that is mounted for the CNI configurations. */}}
{{- define "railhead.cniConfigMount" -}}
{{- $paths := .Values.agent.paths -}}
{{- $mount := $paths.cniConfigMount | default $paths.cniConfig -}}
{{- include "railhead.holds" (list "cniConfigMount" $mount "cniConfig" $paths.cniConfig) -}}
{{- $mount -}}
{{- end }}

{{/* Fails unless the first path holds the second. */}}
{{- define "railhead.holds" -}}
{{- if not (hasPrefix (printf "%s/" (index . 1)) (printf "%s/" (index . 3))) -}}
{{- fail (printf "agent.paths.%s %s does not hold agent.paths.%s %s" (index . 0) (index . 1) (index . 2) (index . 3)) -}}
{{- end -}}
{{- end }}
