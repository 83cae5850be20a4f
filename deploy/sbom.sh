#!/usr/bin/env bash
# Writes the bill of materials of the production program, CycloneDX 1.5 in JSON. `./dev sbom` calls it with the pinned
# cargo-cyclonedx.
#
# usage: sbom.sh CARGO_CYCLONEDX FILE
set -euo pipefail
cyclonedx=$1 file=$(realpath -m "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo tree --locked --no-default-features --edges normal --prefix none --format '{p}' |
  sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u >"$work/program"

# It writes beside each Cargo.toml, so it is given a copy.
mkdir "$work/copy"
git ls-files -z | tar --create --null --files-from - | tar --extract --directory "$work/copy"
(cd "$work/copy" && SOURCE_DATE_EPOCH=$(git -C "$OLDPWD" log -1 --format=%ct) "$cyclonedx" cyclonedx --quiet --quiet \
  --no-default-features --no-build-deps --describe binaries --format json --spec-version 1.5)

# It also names crates that only build scripts need, with features that the program does not have: those go.
mkdir -p "$(dirname "$file")"
python3 - "$work" "$file" <<'PYTHON'
import json, sys

work, file = sys.argv[1:]
program = {tuple(line.split()) for line in open(work + "/program")}
bom = json.loads(open(work + "/copy/contact-sync_bin.cdx.json").read().replace("file://" + work + "/copy", "file://."))
own = bom["metadata"]["component"]["bom-ref"]
bom["components"] = [one for one in bom["components"] if (one["name"], one["version"]) in program]
kept = {one["bom-ref"] for one in bom["components"]} | {own}
bom["dependencies"] = [
    dict(one, dependsOn=[ref for ref in one.get("dependsOn", []) if ref in kept]) for one in bom["dependencies"] if one["ref"] in kept
]
missing = program - {(one["name"], one["version"]) for one in bom["components"]} - {("contact-sync", bom["metadata"]["component"]["version"])}
if missing:
    sys.exit(f"sbom: not in the bill: {sorted(missing)}")
json.dump(bom, open(file, "w"), indent=1)
print(f"sbom: {file} names {len(bom['components'])} crates", file=sys.stderr)
PYTHON
