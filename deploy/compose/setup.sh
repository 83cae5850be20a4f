#!/usr/bin/env bash
# Makes what compose.yaml needs in ./secrets: passwords, the key ring, and a key pair that signs tokens until your identity
# provider does. Needs openssl. Changes nothing that is there: a lost key ring takes the CRM credentials with it.
#
# usage: setup.sh              once
#        setup.sh signing-key  another key pair for tokens; the public keys of before stay beside it in jwks.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077
die() { echo "setup: $*" >&2; exit 1; }

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# Writes the private key into a file, and prints the public one as a line of a key set.
signing_key() { # FILE
  local x kid
  openssl genpkey -algorithm ed25519 -out "$1" 2>/dev/null
  x=$(openssl pkey -in "$1" -pubout -outform DER | tail -c 32 | base64url)
  # The key's thumbprint (RFC 7638), by which tokens name it.
  kid=$(printf '{"crv":"Ed25519","kty":"OKP","x":"%s"}' "$x" | openssl dgst -sha256 -binary | base64url)
  printf '{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "%s", "x": "%s"}\n' "$kid" "$x"
}

make_all() {
  local fresh=secrets.new owner service
  [[ ! -e secrets ]] || die "./secrets is there already; nothing was changed"
  rm -rf "$fresh"
  mkdir -p "$fresh/service" "$fresh/local/auth"

  owner=$(openssl rand -hex 24)
  service=$(openssl rand -hex 24)
  printf %s "$owner" >"$fresh/owner-password"
  printf %s "$service" >"$fresh/service-password"
  cat >"$fresh/owner.toml" <<TOML
database_url = "postgres://contact_sync_owner:$owner@postgres/contact_sync?sslmode=disable"
TOML
  cat >"$fresh/service/service.toml" <<TOML
database_url = "postgres://contact_sync_service:$service@postgres/contact_sync?sslmode=disable"
auth.jwks_file = "/etc/contact-sync/jwks.json"
vault.key_ring_file = "/etc/contact-sync/key-ring.json"
TOML
  printf '{"primary": "k1", "keys": [{"id": "k1", "key": "%s"}]}\n' "$(openssl rand -base64 32)" >"$fresh/service/key-ring.json"
  printf '{"keys": [\n%s\n]}\n' "$(signing_key "$fresh/local/auth/signing-key.pem")" >"$fresh/service/jwks.json"

  # The folder is closed to everybody else on this machine; within, the containers' users read what is mounted. The signing
  # key is not.
  chmod 755 "$fresh/service"
  chmod 444 "$fresh"/*-password "$fresh/owner.toml" "$fresh/service"/*
  mv "$fresh" secrets
  echo "setup: made ./secrets; keep a copy of secrets/service/key-ring.json apart from the database's backups" >&2
}

# Both files are replaced whole. Between the two nobody is refused: the key set opens by the old key and the new.
add_signing_key() {
  local set=secrets/service/jwks.json pair=secrets/local/auth/signing-key.pem line
  [[ $(head -n 1 "$set") == '{"keys": [' ]] || die "$set is not as this script writes it: does your identity provider sign by now?"
  line=$(signing_key "$pair.new")
  { printf '{"keys": [\n%s\n' "$line"; sed -e 1d -e '2s/^/, /' "$set"; } >"$set.new"
  chmod 444 "$set.new"
  mv -f "$set.new" "$set"
  echo "setup: the public key stands in $set; the service reads it within ten seconds" >&2
  mv -f "$pair.new" "$pair"
}

case $# in
  0) make_all ;;
  1) [[ $1 == signing-key ]] || die "usage: setup.sh [signing-key]"; add_signing_key ;;
  *) die "usage: setup.sh [signing-key]" ;;
esac
