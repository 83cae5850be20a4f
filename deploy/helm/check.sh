#!/usr/bin/env bash
# Holds the chart against its own rules, without a cluster: lint, what comes out, and what must be refused. `./dev check`
# calls it with the pinned helm.
#
# usage: check.sh HELM
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
helm=$1
chart=contact-sync
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Nothing of the user's own settings.
export HELM_CONFIG_HOME=$work/config HELM_CACHE_HOME=$work/cache HELM_DATA_HOME=$work/data

wrong=0
complain() { echo "helm: $*" >&2; wrong=1; }

for values in "$chart"/ci/*.yaml; do
  if ! "$helm" lint --strict --quiet --values "$values" $chart >"$work/lint" 2>&1; then
    cat "$work/lint" >&2
    complain "lint refuses $values"
  fi
  "$helm" template calls $chart --namespace voice --values "$values" >"$work/$(basename "$values")" ||
    complain "no template of $values"
done

# What each pod must say, in everything that comes out. Read with values `all`: two pods.
expect() { # TIMES LINE
  local found
  found=$(grep -cE -- "^ *$2\$" "$work/all.yaml" || true)
  [[ $found == "$1" ]] || complain "'$2' stands $found times in what comes out, not $1"
}
expect 2 'readOnlyRootFilesystem: true'
expect 2 'runAsNonRoot: true'
expect 2 'allowPrivilegeEscalation: false'
expect 2 'drop: \[ALL\]'
expect 2 'type: RuntimeDefault'
expect 2 'automountServiceAccountToken: false'
expect 1 'helm.sh/hook: pre-install,pre-upgrade'
expect 1 '- --no-migrate'
expect 2 'httpGet: \{path: /livez, port: admin\}'
expect 1 'httpGet: \{path: /readyz, port: admin\}'
expect 1 'terminationGracePeriodSeconds: 40'
expect 1 'value: "16777216"'
expect 2 'clusterIP: None'
expect 1 'value: /etc/contact-sync/tls/ca.crt'
expect 1 'kind: PodDisruptionBudget'
expect 1 'kind: NetworkPolicy'
expect 1 'kind: ServiceMonitor'
expect 1 'kind: PrometheusRule'
expect "$(grep -c -- '- alert: ' ../alerts.yaml)" '- alert: ContactSync.*'

refuse() { # WHAT ARGS..
  local what=$1
  shift
  if "$helm" template calls $chart --values $chart/ci/least.yaml "$@" >/dev/null 2>"$work/refused"; then
    complain "$what is not refused"
  fi
}
refuse 'no database' --set database.secret=
refuse 'no key ring' --set keyRing.secret=
refuse 'no key set' --set jwks.configMap=
refuse 'two key sets' --set jwks.secret=x
refuse 'an unknown value' --set replicas=2
refuse 'a secret among settings' --set 'settings.database_url=postgres://a'
refuse 'a callback without an address' --set http.enabled=true
((wrong == 0))
