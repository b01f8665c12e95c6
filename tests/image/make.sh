#!/usr/bin/env bash
#
# Builds the image from the real Dockerfile, on bases that stand in for those of Home Assistant and of Rust: a Debian of
# the same release, made here from its packages, because no package registry has images. Images, caches and settings
# stay in target/image; `target/image/podman` is podman with these settings.
#
# What this cannot show: the real base with s6-overlay, AppArmor at work, and aarch64.
#
#   CI   set: what is missing fails, instead of being skipped
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
place=$root/target/image
podman=$place/podman
here=$root/tests/image/stand_in
# debootstrap and apparmor_parser; not every user's PATH has them.
PATH=$PATH:/usr/sbin:/sbin
packages=(podman buildah runc netavark aardvark-dns iptables debootstrap apparmor)

say() { printf 'image: %s\n' "$*"; }

skip() { # WHY
    printf 'SKIPPED: the image is neither built nor tried: %s\n' "$1" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
}

[ "$(id -u)" = 0 ] || skip "debootstrap wants root"
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null || skip "there is no apt to install podman with"
    say "installing ${missing[*]} with apt"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

mkdir -p "$place/storage" "$place/tmp"
# runc, because crun refuses some layouts of cgroups. The limits are those of this shell: who has no CAP_SYS_RESOURCE
# cannot raise them, and podman tries.
cat >"$place/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
CONF
cat >"$place/storage.conf" <<CONF
[storage]
driver = "overlay"
graphroot = "$place/storage"
runroot = "$place/run"
CONF
cat >"$podman" <<PODMAN
#!/bin/sh
CONTAINERS_CONF='$place/containers.conf' CONTAINERS_STORAGE_CONF='$place/storage.conf' TMPDIR='$place/tmp' exec podman "\$@"
PODMAN
chmod +x "$podman"

# It compiles; a kernel without AppArmor cannot show more.
apparmor_parser --skip-kernel-load --skip-cache --quiet "$root/apparmor.txt"
say 'apparmor.txt compiles'

build() { # TAG FILE FOLDER [OPTION...]
    local tag=$1 file=$2 folder=$3 started=$SECONDS
    shift 3
    if ! "$podman" build --quiet --pull=never --network=host --format=docker --tag "$tag" --file "$file" \
        "$@" "$folder" >"$place/build.log" 2>&1; then
        tail -n 40 "$place/build.log" >&2
        say "$tag cannot be built"
        exit 1
    fi
    say "$tag ($((SECONDS - started)) s)"
}

if ! "$podman" image exists localhost/debian:trixie; then
    rm -rf "$place/debian"
    if ! debootstrap --variant=minbase trixie "$place/debian" >"$place/debootstrap.log" 2>&1; then
        tail -n 3 "$place/debootstrap.log" >&2
        skip "debootstrap failed ($place/debootstrap.log)"
    fi
    tar -C "$place/debian" --exclude='./var/cache/apt/archives/*.deb' --exclude='./var/lib/apt/lists/*' -c . |
        "$podman" import --quiet - localhost/debian:trixie >/dev/null
    rm -rf "$place/debian"
    say 'localhost/debian:trixie'
fi

base=$(sed -n 's/^ARG BUILD_FROM=//p' "$root/Dockerfile")
rust=$(sed -n 's/^FROM \(.*rust:.*\) AS .*/\1/p' "$root/Dockerfile")
build "$base" "$here/base.Containerfile" "$here"
build "$rust" "$here/rust.Containerfile" "$here"
# This machine may trust more certificates than Debian does, so Cargo sees its bundle. Neither mount enters a layer.
certificates=/etc/ssl/certs/ca-certificates.crt
build localhost/ha-ingestor:test "$root/Dockerfile" "$root" \
    --volume "$(rustc --print sysroot):/usr/local/rust:ro" \
    --volume "${SSL_CERT_FILE:-$certificates}:$certificates:ro"

size() { "$podman" image inspect --format '{{.Size}}' "$1"; }
layers=$(($(size localhost/ha-ingestor:test) - $(size "$base")))
say "the image adds $((layers / 1024)) KiB to its base"
[ "$layers" -lt $((15 * 1024 * 1024)) ] || { say 'which is more than 15 MiB'; exit 1; }
