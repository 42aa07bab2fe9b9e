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

{{/* Fails where the release's namespace would refuse the pods: what is made then is a DaemonSet without pods. Sees nothing without a cluster. */}}
{{- define "railhead.admissible" -}}
{{- $namespace := .Release.Namespace -}}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" (lookup "v1" "Namespace" "" $namespace) -}}
{{- if and .Values.admission.checkPodSecurity (ne $level "privileged") -}}
{{- fail (printf "namespace %s enforces the pod security level %s, under which the agent's pods are refused: they need the node's network and folders. Run `kubectl label namespace %s --overwrite pod-security.kubernetes.io/enforce=privileged`, or set admission.checkPodSecurity=false where the API server exempts the namespace" $namespace $level $namespace) -}}
{{- end -}}
{{- if .Release.IsInstall -}}
{{- $classes := list .Values.operator.priorityClassName .Values.agent.priorityClassName -}}
{{- range (lookup "v1" "ResourceQuota" $namespace "").items -}}
{{- $quota := . -}}
{{- $pods := dig "spec" "hard" "pods" "" $quota | toString -}}
{{- $used := dig "status" "used" "pods" "0" $quota | toString -}}
{{- $full := and (regexMatch "^[0-9]+$" $pods) (ge (int $used) (int $pods)) -}}
{{- $ofAll := and (not (dig "spec" "scopes" list $quota)) (not (dig "spec" "scopeSelector" "matchExpressions" list $quota)) -}}
{{- if and $full $ofAll -}}
{{- include "railhead.full" (list $namespace $quota.metadata.name $pods "pods") -}}
{{- end -}}
{{- range (dig "spec" "scopeSelector" "matchExpressions" list $quota) -}}
{{- $scope := . -}}
{{- range $classes -}}
{{- if and $full (eq $scope.scopeName "PriorityClass") (eq $scope.operator "In") (has . (default list $scope.values)) -}}
{{- include "railhead.full" (list $namespace $quota.metadata.name $pods (printf "pods of priority class %s" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "railhead.full" -}}
{{- fail (printf "ResourceQuota %s of namespace %s allows %s %s, and they are used up: none of the release's pods would be made. Raise it, or install into a namespace of its own" (index . 1) (index . 0) (index . 2) (index . 3)) -}}
{{- end }}

{{/* Fails unless the first path holds the second. */}}
{{- define "railhead.holds" -}}
{{- if not (hasPrefix (printf "%s/" (index . 1)) (printf "%s/" (index . 3))) -}}
{{- fail (printf "agent.paths.%s %s does not hold agent.paths.%s %s" (index . 0) (index . 1) (index . 2) (index . 3)) -}}
{{- end -}}
{{- end }}
