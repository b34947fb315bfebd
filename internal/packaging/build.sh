#!/bin/sh
# build.sh OUT VERSION ARCH BINARY NFPM SBOM puts the packages of one architecture into OUT: a
# .deb, an .rpm, a .tar.gz, and the bill of materials. NFPM and SBOM are the programs nfpm and
# cyclonedx-gomod. The same commit, Go and programs give the same bytes: no file has the time
# or the user of its build (SOURCE_DATE_EPOCH, reproducible-builds.org).
set -eu
export LC_ALL=C
umask 022
out=$1 version=$2 arch=$3 binary=$4 nfpm=$5 sbom=$6
here=$(dirname "$0")
top=$here/../..
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The binary of this machine prints the completions. They are the same for all.
tree=$work/tree doc=$work/tree/usr/share/doc/qnet
install -D -m 755 "$binary" "$tree/usr/bin/qnet"
install -d "$tree/usr/share/man/man1" "$doc/docs" "$tree/usr/lib/systemd/system"
gzip -9n < "$top/docs/qnet.1" > "$tree/usr/share/man/man1/qnet.1.gz"
for shell in bash:bash-completion/completions/qnet zsh:zsh/site-functions/_qnet fish:fish/vendor_completions.d/qnet.fish; do
	file=$tree/usr/share/${shell#*:}
	install -d "$(dirname "$file")"
	"$top/bin/qnet" completion "${shell%%:*}" > "$file"
done
sed 's|/usr/local/bin/|/usr/bin/|' "$top/examples/qnet@.service" > "$tree/usr/lib/systemd/system/qnet@.service"
gzip -9n < "$top/CHANGELOG.md" > "$doc/changelog.gz"
cp "$top/LICENSE" "$doc/copyright"
cp "$top/README.md" "$top/SECURITY.md" "$doc/"
cp "$top"/docs/*.md "$doc/docs/"
cp -r "$top/examples" "$doc/examples"
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
for packager in deb rpm; do
	TREE=$tree ARCH=$arch VERSION=$version "$nfpm" package -f "$here/nfpm.yaml" -p $packager -t "$out/" > "$work/log" || { cat "$work/log" >&2; exit 1; }
done
name=qnet-$version-linux-$arch
mkdir "$work/$name"
cp -r "$tree/usr/." "$work/$name/"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -9n > "$out/$name.tar.gz"

"$sbom" bin -json -noserial -version "$version" -output "$work/sbom" "$binary" 2> /dev/null
sed "s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)\"/" "$work/sbom" > "$out/$name.cdx.json"
