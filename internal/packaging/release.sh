#!/bin/sh
# release.sh VERSION refuses what is no release: a tree with changes, a commit without the tag
# VERSION, a changelog without its heading.
set -eu
refuse() { echo "release: $*" >&2; exit 1; }
version=$1
changes=$(git status --porcelain)
[ -z "$changes" ] || refuse "the tree has changes; commit them, or put them aside with git stash:
$changes"
case $version in
v[0-9]*.[0-9]*.[0-9]*) ;;
*) refuse "got version $version, allowed: vMAJOR.MINOR.PATCH; tag the commit with git tag -s vX.Y.Z" ;;
esac
case $version in *[-+]*) refuse "this commit has no tag vX.Y.Z; set it with git tag -s vX.Y.Z" ;; esac
grep -q "^## ${version#v} " CHANGELOG.md || refuse "CHANGELOG.md has no heading \"## ${version#v} - DATE\"; rename \"Unreleased\""
