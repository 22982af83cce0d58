#!/bin/sh
# Writes what packages carry besides the binary, made by the binary itself: the manual page and the
# completions, into target/packaging/.
#
# Usage: packaging/prepare.sh [BINARY]
set -eu

cd "$(dirname "$0")/.."
binary=${1:-target/release/foldsync}
out=target/packaging
mkdir -p "$out"
"$binary" man | gzip -9n >"$out/foldsync.1.gz"
"$binary" completions bash >"$out/foldsync.bash"
"$binary" completions zsh >"$out/_foldsync"
"$binary" completions fish >"$out/foldsync.fish"
# An empty file would be packaged without a word.
for file in foldsync.1.gz foldsync.bash _foldsync foldsync.fish; do
    test -s "$out/$file"
done
echo "written to $out"
