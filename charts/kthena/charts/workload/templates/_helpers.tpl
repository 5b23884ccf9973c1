{{- define "workload.controllerManager.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: kthena-controller-manager
{{- end }}

{{- define "workload.controllerManager.labels" -}}
{{ include "workload.controllerManager.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* What a webhook configuration has in its annotations, where cert-manager is to write the authority. */ -}}
{{- define "workload.controllerManager.injection" -}}
{{- if eq .Values.global.certManagementMode "cert-manager" }}
  annotations:
    cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/kthena-controller-manager-webhook-cert
{{- end }}
{{- end }}

{{- /* One webhook: name, path, resource. */ -}}
{{- define "workload.controllerManager.webhook" -}}
{{- $global := .root.Values.global -}}
- name: {{ .name }}
  clientConfig:
    {{- if eq $global.certManagementMode "manual" }}
    caBundle: {{ required "global.webhook.caBundle is needed where certManagementMode is manual" $global.webhook.caBundle }}
    {{- end }}
    service:
      name: {{ .root.Values.controllerManager.webhook.tls.serviceName }}
      namespace: {{ .root.Release.Namespace }}
      path: {{ .path }}
      port: 443
  rules:
  - apiGroups: [workload.serving.volcano.sh]
    apiVersions: [v1alpha1]
    operations: [CREATE, UPDATE]
    resources: [{{ .resource }}]
    scope: Namespaced
  failurePolicy: Fail
  sideEffects: None
  timeoutSeconds: 30
  admissionReviewVersions: [v1]
{{- end }}
