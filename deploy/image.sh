#!/usr/bin/env bash
# Makes the container image, without a daemon and from scratch: the program, the libraries that it is linked to, root
# certificates, and licences. Then runs what it has written. `./dev image` calls it, with what it needs.
#
# usage: image.sh BINARY LICENCES OUT [DATABASE_DIR]
#   LICENCES      a folder that becomes /licenses
#   OUT           the OCI archive to write
#   DATABASE_DIR  where a PostgreSQL's socket is; with it, and as root, the image is also made to serve
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=$1 licences=$2 out=$3 database=${4:-}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if ! git diff --quiet HEAD 2>/dev/null; then revision+=-modified; fi
# The same sources make the same image.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
# No system user has it, and Kubernetes sees that it is not root.
user=10001

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

work=$(mktemp -d)
service=
# Storage of its own, so that nothing of the machine's images is touched, and nothing stays.
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
cleanup() {
  local status=$?
  if [[ -n $service ]]; then kill -9 "$service" 2>/dev/null || true; fi
  buildah umount --all >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# ------------------------------------------------------------------------------------------------- the file system

root=$work/root
install -D -m 755 --strip "$binary" "$root/usr/bin/contact-sync"

# A static program would need another C library, which the toolchain may not have: so its libraries come along, each where
# the program looks for it. Names are looked up by the C library itself from 2.34 on.
glibc=$(ldd --version | sed -n '1s/.* //p')
[[ $(printf '%s\n' 2.34 "$glibc" | sort -V | head -n 1) == 2.34 ]] || die "the C library is $glibc; build with 2.34 or newer"
libraries=()
while read -r library; do
  install -D -m 755 "$(readlink -f "$library")" "$root$library"
  libraries+=("$library")
done < <(ldd "$binary" | sed -n 's|^.*[[:space:]]\(/[^ ]*\) (0x[0-9a-f]*)$|\1|p')
((${#libraries[@]} > 1)) || die "ldd names no library of $binary"
echo 'hosts: files dns' | install -D -m 644 /dev/stdin "$root/etc/nsswitch.conf"

certificates=/etc/ssl/certs/ca-certificates.crt
[[ -f $certificates ]] || die "$certificates is missing: install ca-certificates"
install -D -m 644 "$certificates" "$root$certificates"

echo "contact-sync:x:$user:$user::/:/sbin/nologin" | install -D -m 644 /dev/stdin "$root/etc/passwd"
echo "contact-sync:x:$user:" | install -D -m 644 /dev/stdin "$root/etc/group"

mkdir -p "$root/licenses"
cp -R "$licences/." "$root/licenses/"
cp LICENSE "$root/licenses/LICENSE"
# Whose the copied files are, at which version: their sources are that distribution's.
if command -v dpkg-query >/dev/null; then
  for file in "${libraries[@]}" "$certificates"; do
    # A generated file belongs to nobody; /lib may be a link to /usr/lib, which dpkg does not know of.
    package=$(dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "$(readlink -f "$file")" 2>/dev/null || echo ca-certificates:)
    package=${package%%:*}
    cp -L "/usr/share/doc/$package/copyright" "$root/licenses/$package.txt"
    # shellcheck disable=SC2016
    dpkg-query -W -f '${Package} ${Version} (source: ${source:Package} ${source:Version})\n' "$package" | tail -n 1
  done | sort -u >"$work/packages"
  install -m 644 "$work/packages" "$root/licenses/system-packages.txt"
fi
chmod -R u=rwX,go=rX "$root/licenses"
find "$root" -exec touch --no-dereference --date "@$epoch" {} +

# ---------------------------------------------------------------------------------------------------------- the image

container=$(buildah from scratch)
buildah copy --quiet "$container" "$root" / >/dev/null
buildah config --user "$user:$user" --entrypoint '["/usr/bin/contact-sync"]' --cmd serve --stop-signal SIGTERM \
  --workingdir / --port 50051/tcp --port 9464/tcp \
  --env PATH=/usr/bin --env CONTACT_SYNC_LISTEN=0.0.0.0:50051 --env CONTACT_SYNC_DATA_DIR=/var/lib/contact-sync \
  --env CONTACT_SYNC_LOG__FORMAT=json \
  --annotation "org.opencontainers.image.version=$version" --annotation "org.opencontainers.image.revision=$revision" \
  "$container"
for label in title=contact-sync version="$version" revision="$revision" licenses=Apache-2.0 \
  description="Names the caller and attributes the ticket: a contact-identity service for call centres" \
  created="$(date --utc --date "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"; do
  buildah config --label "org.opencontainers.image.$label" "$container"
done
mkdir -p "$(dirname "$out")"
rm -f "$out"
buildah commit --quiet --format oci --disable-compression=false --timestamp "$epoch" --rm "$container" "oci-archive:$out:contact-sync:$version" >/dev/null

# ----------------------------------------------------------------------------------- what was written is run once

container=$(buildah from --quiet "oci-archive:$out")
mkdir -p "$work/settings"
# The public key of RFC 8037, A.2: nobody here can sign by it.
cat >"$work/settings/jwks.json" <<'JSON'
{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "check", "alg": "EdDSA", "use": "sig", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
JSON
printf '{"primary": "check", "keys": [{"id": "check", "key": "%s"}]}\n' "$(head -c 32 /dev/urandom | base64)" \
  >"$work/settings/key-ring.json"
chmod -R go+rX "$work" "$work/settings"
files=(CONTACT_SYNC_AUTH__JWKS_FILE=/settings/jwks.json CONTACT_SYNC_VAULT__KEY_RING_FILE=/settings/key-ring.json)

told=$(buildah run --isolation chroot "$container" -- /usr/bin/contact-sync --version)
[[ $told == "contact-sync $version" ]] || die "it says that it is $told"
buildah run --isolation chroot --volume "$work/settings:/settings:ro" "${files[@]/#/--env=}" \
  --env DATABASE_URL=postgres://nobody@localhost/nothing "$container" -- /usr/bin/contact-sync config check >/dev/null ||
  die "it does not accept settings that are right"

# In the image's file system, which cannot be written here, as its user; replaces this shell.
in_image() {
  exec env -i CONTACT_SYNC_DATA_DIR=/var/lib/contact-sync CONTACT_SYNC_LISTEN=127.0.0.1:0 \
    CONTACT_SYNC_ADMIN__LISTEN="127.0.0.1:$port" "${files[@]}" \
    DATABASE_URL="postgresql:///postgres?host=/database&port=5432&user=contact_sync&sslmode=disable" \
    "$(command -v unshare)" --mount --propagation private "$BASH" -euc '
      PATH=/usr/sbin:/usr/bin:/sbin:/bin
      mount --bind "$1" "$1"
      mount --bind "$2" "$1/database"
      mount --bind "$3" "$1/settings"
      mount -o remount,bind,ro "$1"
      user=$4 root=$1
      shift 4
      exec chroot --userspec="$user:$user" "$root" /usr/bin/contact-sync "$@"
    ' bash "$mounted" "$database" "$work/settings" "$user" "$@"
}

if [[ -n $database && $EUID == 0 ]]; then
  mounted=$(buildah mount "$container")
  mkdir -p "$mounted/database" "$mounted/settings"
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  (in_image serve) >"$work/log" 2>&1 </dev/null &
  service=$!
  for ((tries = 0; tries < 300; tries++)); do
    if (in_image health) >"$work/health" 2>&1; then break; fi
    kill -0 "$service" 2>/dev/null || break
    sleep 0.1
  done
  kill -TERM "$service" 2>/dev/null || true
  code=0
  wait "$service" || code=$?
  service=
  if ((code != 0 || tries == 300)); then
    cat "$work/log" "$work/health" >&2
    die "it does not serve, or does not end as asked (code $code)"
  fi
  say "it served on a root file system that cannot be written, as user $user, and ended by SIGTERM with code 0"
else
  say "not made to serve: that needs root"
fi

bytes=$(stat -c %s "$out")
unpacked=$(du --summarize --bytes "$root" | cut -f 1)
say "$out: $version, $((bytes / 1000000)) MB packed, $((unpacked / 1000000)) MB unpacked, program $(($(stat -c %s "$root/usr/bin/contact-sync") / 1000000)) MB"
