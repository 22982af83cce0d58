#!/usr/bin/env bash
# Builds the Debian package, installs it, uses what it installed as a user would, checks the units,
# and removes it again. Needs Debian, its package tools and root; installs what else it needs.
#
# Usage: packaging/check.sh
set -euo pipefail
cd "$(dirname "$0")/.."

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
tools="$PWD/target/tools"
work=$(mktemp -d)
trap '$sudo dpkg --purge foldsync >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

need() {
    command -v "$1" >/dev/null 2>&1 && return
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$2"
}

build() {
    cargo build --release --locked
    packaging/prepare.sh
    # Without the optional features it compiles in half the time and writes the same package.
    [ -x "$tools/bin/cargo-deb" ] || cargo install cargo-deb --version 3.8.0 --locked \
        --no-default-features --debug --quiet --root "$tools"
    rm -rf target/debian
    "$tools/bin/cargo-deb" deb --no-build --locked
}

installed_files_are_right() {
    for file in /usr/bin/foldsync /usr/share/man/man1/foldsync.1.gz \
        /usr/share/bash-completion/completions/foldsync /usr/lib/systemd/user/foldsync.service \
        /usr/lib/systemd/system/foldsync@.service /usr/share/doc/foldsync/sync.toml.example; do
        test -s "$file" || { echo "the package does not install $file" >&2; return 1; }
    done
    gzip -dc /usr/share/man/man1/foldsync.1.gz | grep -q '^\.TH foldsync 1'
    bash -n /usr/share/bash-completion/completions/foldsync
}

units_are_right() {
    XDG_RUNTIME_DIR="$work" systemd-analyze verify --man=no --user /usr/lib/systemd/user/foldsync*.service \
        /usr/lib/systemd/user/foldsync*.timer
    systemd-analyze verify --man=no /usr/lib/systemd/system/foldsync@.service
}

it_syncs() {
    mkdir "$work/here" "$work/there"
    echo "from here" >"$work/here/a"
    echo "from there" >"$work/there/b"
    /usr/bin/foldsync --state-dir "$work/state" sync --once \
        --local "$work/here" --remote "dir:$work/there"
    cmp "$work/here/b" "$work/there/b" && cmp "$work/here/a" "$work/there/a"
}

need dpkg-deb dpkg
need systemd-analyze systemd
build
$sudo dpkg -i target/debian/foldsync_*.deb
installed_files_are_right
units_are_right
it_syncs
$sudo dpkg --purge foldsync
test ! -e /usr/bin/foldsync
echo "the Debian package installs, works and goes away again"
