#!/usr/bin/env bash
# Makes what compose.yaml needs in ./secrets: passwords, the key ring, and a key pair that signs tokens until your identity
# provider does. Needs openssl. Changes nothing that is there: a lost key ring takes the CRM credentials with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077
if [[ -e secrets ]]; then
  echo "setup: ./secrets is there already; nothing was changed" >&2
  exit 1
fi
fresh=secrets.new
rm -rf "$fresh"
mkdir -p "$fresh/local/auth"

owner=$(openssl rand -hex 24)
service=$(openssl rand -hex 24)
printf %s "$owner" >"$fresh/owner-password"
printf %s "$service" >"$fresh/service-password"
printf '{"primary": "k1", "keys": [{"id": "k1", "key": "%s"}]}\n' "$(openssl rand -base64 32)" >"$fresh/key-ring.json"
cat >"$fresh/owner.toml" <<TOML
database_url = "postgres://contact_sync_owner:$owner@postgres/contact_sync?sslmode=disable"
TOML
cat >"$fresh/service.toml" <<TOML
database_url = "postgres://contact_sync_service:$service@postgres/contact_sync?sslmode=disable"
auth.jwks_file = "/run/secrets/jwks.json"
vault.key_ring_file = "/run/secrets/key-ring.json"
TOML

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
openssl genpkey -algorithm ed25519 -out "$fresh/local/auth/signing-key.pem" 2>/dev/null
x=$(openssl pkey -in "$fresh/local/auth/signing-key.pem" -pubout -outform DER | tail -c 32 | base64url)
# The key's thumbprint (RFC 7638), by which tokens name it.
kid=$(printf '{"crv":"Ed25519","kty":"OKP","x":"%s"}' "$x" | openssl dgst -sha256 -binary | base64url)
printf '{"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "%s", "x": "%s"}]}\n' "$kid" "$x" \
  >"$fresh/local/auth/jwks.json"

# The folder is closed to everybody else; within, the containers' users read what is mounted. The signing key is not.
chmod 444 "$fresh"/*-password "$fresh"/*.toml "$fresh"/*.json "$fresh/local/auth/jwks.json"
mv "$fresh" secrets
echo "setup: made ./secrets; keep a copy of secrets/key-ring.json apart from the database's backups" >&2
