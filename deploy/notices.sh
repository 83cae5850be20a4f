#!/usr/bin/env bash
# Writes the licences of every crate in the production program. Fails at a licence that deny.toml does not allow, and if a
# crate of the program is missing in what it wrote. `./dev notices` calls it with the pinned cargo-about.
#
# usage: notices.sh CARGO_ABOUT FILE
set -euo pipefail
about=$1 file=$(realpath -m "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One list of licences, that of ./dev check.
{
  printf 'accepted = [%s]\n' "$(sed -n '/^allow = \[/,/^\]/s/^ *\("[^"]*"\),\{0,1\}$/\1/p' deny.toml | paste -sd, -)"
  printf 'ignore-build-dependencies = true\nignore-dev-dependencies = true\nprivate = { ignore = true }\n'
} >"$work/about.toml"

cargo fetch --locked --quiet
mkdir -p "$(dirname "$file")"
# Offline: a crate that was packed without its licence is given the licence's common text.
"$about" about generate --offline --locked --no-default-features --fail --target "$(rustc -vV | sed -n 's/^host: //p')" \
  --config "$work/about.toml" --output-file "$work/notices" deploy/notices.hbs

cargo tree --locked --no-default-features --edges normal --prefix none --format '{p}' |
  sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u >"$work/program"
cargo tree --locked --no-default-features --edges normal --prefix none --format '{p}' |
  sed -n "s|^\([^ ]*\) v\([^ ]*\) ($PWD.*|\1 \2|p" | sort -u >"$work/own"
sed -n 's/^  \([^ ]* [0-9][^ ]*\)\(  .*\)\{0,1\}$/\1/p' "$work/notices" | sort -u >"$work/named"
missing=$(comm -23 "$work/program" "$work/named" | comm -23 - "$work/own")
if [[ -n $missing ]]; then
  printf 'notices: no licence was found for:\n%s\n' "$missing" >&2
  exit 1
fi
mv "$work/notices" "$file"
echo "notices: $file names $(wc -l <"$work/named") crates" >&2
