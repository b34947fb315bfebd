#!/bin/sh
# goinstall.sh GO tries `go install github.com/qnet-vm/qnet@latest` for this commit, as if it had
# the tag v0.1.0 and were published: a directory stands in for the module proxy.
set -eu
go=$1 module=github.com/qnet-vm/qnet
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
versions=$dir/proxy/$module/@v
mkdir -p "$versions"
echo v0.1.0 > "$versions/list"
echo '{"Version":"v0.1.0"}' > "$versions/v0.1.0.info"
cp go.mod "$versions/v0.1.0.mod"
git archive --format=zip --prefix="$module@v0.1.0/" HEAD > "$versions/v0.1.0.zip"
(
	cd "$dir"
	GOBIN=$dir GOMODCACHE=$dir/modules GOPROXY="file://$dir/proxy,$("$go" env GOPROXY)" GONOSUMDB=$module GOFLAGS=-modcacherw "$go" install $module@latest
)
got=$("$dir/qnet" version)
[ "$got" = "qnet v0.1.0" ] || { echo "go install makes $got" >&2; exit 1; }
echo "go install: $got"
