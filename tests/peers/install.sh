#!/usr/bin/env bash
#
# Puts the real peers of our tests under target/peers: influxd, VictoriaMetrics, Prometheus and mosquitto from the
# distribution's own packages, unpacked and neither installed nor started; Home Assistant from PyPI, in a virtual
# environment; the newest Home Assistant, which wants a newer Python than most machines have, in a small Debian of its own.
# Nothing outside target/peers changes, except apt's package lists where they are empty.
#
# What this machine cannot give is said in one line that starts with SKIPPED; with CI set that is a failure.
#
#   PEERS_DIR   where to put them (default: target/peers of this checkout)
#   CI          set: whatever is skipped fails
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
peers=${PEERS_DIR:-$root/target/peers}
mkdir -p "$peers/bin"
peers=$(cd "$peers" && pwd)
skipped=0

# Home Assistant and what it would fetch for itself at its first start (we start it with --skip-pip).
home_assistant=homeassistant==2025.4.4
# aiodns 3.2 accepts any pycares and breaks with 5.
pycares='pycares<5'
# The frontend is part of the default set even where nobody looks; the others belong to the integrations
# influxdb, mqtt and demo.
integrations=(setuptools home-assistant-frontend==20250411.0 influxdb==5.3.1 influxdb-client==1.24.0 paho-mqtt==2.1.0
    PyTurboJPEG==1.7.5 av==13.1.0)

# The newest one wants Python >= 3.14.2, and this Debian has it.
newest_home_assistant=homeassistant==2026.11.0
newest_debian=forky
# What the manifests of its integrations name: frontend and influxdb; mqtt, which imports what hassio asks for; from
# `ha-ffmpeg` on what demo brings with it. All of them come as wheels or are pure Python, so no compiler is there.
# pymicro-vad and pyspeex-noise would want one: the voice assistant that demo asks for does not start, and nobody needs it.
newest_integrations=(home-assistant-frontend==20261028.4 influxdb==5.3.2 influxdb-client==1.50.0 paho-mqtt==2.1.0
    aiohasupervisor==0.8.1 ha-ffmpeg==3.2.2 hassil==3.12.1 home-assistant-intents==2026.10.27 gazetteer-matcher==1.1.0
    mutagen==1.48.1 PyTurboJPEG==1.8.3 av==19.0.0 numpy==2.3.2 infrared-protocols==10.5.0 rf-protocols==4.3.0)

say() { printf 'peers: %s\n' "$*"; }

skip() { # WHAT WHY TESTS
    printf 'SKIPPED: %s is not there because %s; %s do not run\n' "$1" "$2" "$3" >&2
    skipped=1
}

# --- From the distribution's packages -----------------------------------------------------------------------------

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

known_to_apt() { [ -n "$(apt-cache show --no-all-versions "$1" 2>/dev/null)" ]; }

lists_refreshed=no
refresh_lists() {
    [ "$lists_refreshed" = no ] || return 0
    lists_refreshed=yes
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "apt's package lists are empty and only root may fetch them (apt-get update); there is no sudo here"
        return 0
    fi
    say "apt does not know the packages yet: running apt-get update as root"
    as_root apt-get update -qq || say "apt-get update failed"
}

# The programs are Go and need nothing but libc (VictoriaMetrics: and libzstd, which dpkg itself uses).
from_package() { # PACKAGE TESTS PROGRAM...
    local package=$1 tests=$2 program missing=() scratch
    shift 2
    for program in "$@"; do
        [ -x "$peers/bin/$program" ] || missing+=("$program")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0

    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        skip "$package" "this machine has no apt to take the package from" "$tests"
        return 0
    fi
    known_to_apt "$package" || refresh_lists
    if ! known_to_apt "$package"; then
        skip "$package" "this distribution has no such package" "$tests"
        return 0
    fi

    say "fetching the package $package (5 to 25 MB)"
    scratch=$(mktemp -d "$peers/.$package.XXXXXX")
    # As root, apt would hand the download to its user _apt, who may not write here.
    if ! (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root "$package"); then
        rm -rf "$scratch"
        skip "$package" "the download failed" "$tests"
        return 0
    fi
    dpkg-deb --fsys-tarfile "$scratch"/*.deb | tar -x -C "$scratch" "${missing[@]/#/./usr/bin/}"
    for program in "${missing[@]}"; do
        mv "$scratch/usr/bin/$program" "$peers/bin/$program"
    done
    rm -rf "$scratch"
}

# mosquitto is written in C: the libraries that a plain system lacks go beside it, in mosquitto/lib. Whoever starts it sets
# LD_LIBRARY_PATH to that folder.
install_mosquitto() {
    local tests=$1 place=$peers/mosquitto package scratch
    local packages=(mosquitto mosquitto-clients) wanted=()
    [ ! -f "$place/.complete" ] || return 0

    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        skip mosquitto "this machine has no apt to take the package from" "$tests"
        return 0
    fi
    known_to_apt mosquitto || refresh_lists
    if ! known_to_apt mosquitto || ! known_to_apt mosquitto-clients; then
        skip mosquitto "this distribution has no such package" "$tests"
        return 0
    fi
    # Every library that the two ask for by themselves; what each of these needs belongs to every system.
    mapfile -t wanted < <(apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "${packages[@]}" | sed -n 's/^ *|\{0,1\}Depends: \(lib[^ ]*\)$/\1/p' | grep -vx 'libc6' | sort -u)
    packages+=("${wanted[@]}")

    say "fetching mosquitto and ${#wanted[@]} libraries (3 MB)"
    rm -rf "$place"
    scratch=$(mktemp -d "$peers/.mosquitto.XXXXXX")
    for package in "${packages[@]}"; do
        known_to_apt "$package" || continue
        if ! (cd "$scratch" && apt-get download -qq -o APT::Sandbox::User=root "$package"); then
            rm -rf "$scratch"
            skip mosquitto "the download of $package failed" "$tests"
            return 0
        fi
    done
    mkdir -p "$place/bin" "$place/lib" "$scratch/files"
    for package in "$scratch"/*.deb; do
        dpkg-deb -x "$package" "$scratch/files"
    done
    mv "$scratch/files/usr/sbin/mosquitto" "$scratch"/files/usr/bin/mosquitto_{pub,sub,passwd} "$place/bin/"
    find "$scratch/files" -name 'lib*.so.*' -exec mv -t "$place/lib" {} +
    rm -rf "$scratch"
    if LD_LIBRARY_PATH=$place/lib ldd "$place/bin/mosquitto" "$place/bin/mosquitto_pub" | grep -q 'not found'; then
        skip mosquitto "libraries that it needs are not in its packages" "$tests"
        return 0
    fi
    touch "$place/.complete"
}

# --- From PyPI ----------------------------------------------------------------------------------------------------

# A name on PATH proves nothing: version managers put a stub there for versions that are not chosen.
find_python() {
    local candidate
    for candidate in python3.13 python3 "$HOME"/.pyenv/versions/3.13*/bin/python3.13; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

install_home_assistant() {
    local tests=$1 venv=$peers/home-assistant python uv complete wanted
    # Written last: an installation that was interrupted is taken up again.
    complete=$venv/.complete
    wanted="$home_assistant $pycares ${integrations[*]}"
    if [ -f "$complete" ] && [ "$(cat "$complete")" = "$wanted" ]; then
        return 0
    fi
    if ! python=$(find_python); then
        skip "$home_assistant" "there is no Python 3.13 on PATH or under ~/.pyenv/versions" "$tests"
        return 0
    fi
    if ! command -v cc >/dev/null || ! command -v c++ >/dev/null; then
        skip "$home_assistant" "some of its packages are compiled and there is no cc or c++ (make deps)" "$tests"
        return 0
    fi

    say "installing Home Assistant 2025.4.4 with $python: about 2 minutes and 850 MB"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    # pip needs five times as long for the same set.
    [ -x "$venv/bin/uv" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
    uv=("$venv/bin/uv" pip install --quiet --python "$venv/bin/python")
    say "  its own packages (1 of 2)"
    "${uv[@]}" "$home_assistant" "$pycares"
    say "  what its integrations ask for (2 of 2)"
    "${uv[@]}" --constraint "$venv/lib/python3.13/site-packages/homeassistant/package_constraints.txt" \
        "$pycares" "${integrations[@]}"
    printf '%s\n' "$wanted" >"$complete"
}

# --- In a Debian of its own ---------------------------------------------------------------------------------------

quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# A mount in a tree that somebody deletes would empty what is mounted there. These are made in a mount namespace that
# only the program is in, and end with it: nobody else ever sees one. Each step replaces the one before (exec), so the
# program has the PID that the caller knows, and its environment and network are the caller's too: a Python like any other.
write_entrance() { # PLACE NAME [PROGRAM]
    local place=$1 name=$2 program=${3:-}
    {
        printf '#!/bin/sh\n# Runs %s in the Debian beside this file.\n' "${program:-a command}"
        cat <<'ENTRANCE'
exec unshare --mount --propagation private sh -c '
    set -e
    # $0 is the Debian, $1 the checkout. No variables: the caller may export one of that name.
    show() { [ ! -d "$1" ] || { mkdir -p "$0$1" && mount --rbind "$1" "$0$1"; } }
    show /proc
    show /sys
    show /dev
    show /tmp
    [ -z "${TMPDIR:-}" ] || show "$TMPDIR"
    show "$1"
    shift
    # Another checkout, for example. Where the Debian has its own files, these are what is seen.
    case $PWD in
        / | /bin* | /etc* | /home-assistant* | /lib* | /sbin* | /usr* | /var*) ;;
        *) show "$PWD" ;;
    esac
    # The caller need not have /usr/sbin on its PATH.
    exec /usr/sbin/chroot "$0" /usr/bin/env --chdir="$PWD" "$@"
ENTRANCE
        printf "' %s %s %s \"\$@\"\n" "$(quoted "$place/system")" "$(quoted "$root")" "$program"
    } >"$place/.entrance"
    chmod +x "$place/.entrance"
    # Whole at once: a test may be starting it.
    mv "$place/.entrance" "$place/$name"
}

# Whose packages apt takes, if this is a Debian; else where everybody may.
debian_mirror() {
    local mirrors
    # shellcheck disable=SC2016  # the variable is apt's
    mapfile -t mirrors < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
        'Label: Debian' | sed -n '/^https\{0,1\}:/p')
    printf '%s\n' "${mirrors[0]:-http://deb.debian.org/debian}"
}

# debootstrap is a shell script: it runs where its package is unpacked. With the keys it checks Debian's signature.
make_debian() { # PLACE TESTS
    local place=$1 tests=$2 package tools log=$1/debootstrap.log
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        skip "$newest_home_assistant" "this machine has no apt to take the package debootstrap from" "$tests"
        return 1
    fi
    for package in wget gpgv; do
        if ! command -v "$package" >/dev/null; then
            skip "$newest_home_assistant" "debootstrap needs $package, and it is not on PATH" "$tests"
            return 1
        fi
    done
    # What an interrupted run left is of no use to debootstrap.
    rm -rf "$place"/.debootstrap.*
    tools=$(mktemp -d "$place/.debootstrap.XXXXXX")
    for package in debootstrap debian-archive-keyring; do
        known_to_apt "$package" || refresh_lists
        if ! (cd "$tools" && apt-get download -qq -o APT::Sandbox::User=root "$package"); then
            rm -rf "$tools"
            skip "$newest_home_assistant" "the download of $package failed" "$tests"
            return 1
        fi
        dpkg-deb -x "$tools/$package"_*.deb "$tools"
    done

    rm -rf "$place/.debian" "$place/system"
    # The script of every suite since sid is that of sid, and an older debootstrap does not know the name of a newer suite.
    if ! PATH=$PATH:/usr/sbin:/sbin DEBOOTSTRAP_DIR=$tools/usr/share/debootstrap unshare --mount --propagation private \
        "$tools/usr/sbin/debootstrap" --variant=minbase --include=ca-certificates,python3-venv,tzdata \
        --force-check-gpg --keyring="$tools/usr/share/keyrings/debian-archive-keyring.gpg" \
        "$newest_debian" "$place/system" "$(debian_mirror)" "$tools/usr/share/debootstrap/scripts/sid" >"$log" 2>&1; then
        rm -rf "$tools"
        tail -n 3 "$log" >&2
        skip "$newest_home_assistant" "debootstrap failed ($log)" "$tests"
        return 1
    fi
    # 100 MB of packages and of lists of packages.
    rm -rf "$tools" "$place"/system/var/cache/apt/* "$place"/system/var/lib/apt/lists/*
}

install_newest_home_assistant() {
    local tests=$1 place=$peers/home-assistant-newest python=/home-assistant/bin/python
    local certificates=/etc/ssl/certs/ca-certificates.crt bundle wanted uv site
    wanted="$newest_home_assistant $newest_debian ${newest_integrations[*]}"
    if [ "$(id -u)" != 0 ]; then
        skip "$newest_home_assistant" "only root may make and enter a Debian of its own, for a Python >= 3.14.2" "$tests"
        return 0
    fi
    if ! unshare --mount --propagation private mount --bind "$peers" "$peers" 2>/dev/null; then
        skip "$newest_home_assistant" "root may not unshare its mounts here (a container wants CAP_SYS_ADMIN)" "$tests"
        return 0
    fi
    if [ -f "$place/.complete" ] && [ "$(cat "$place/.complete")" = "$wanted" ]; then
        # The checkout may be elsewhere by now.
        write_entrance "$place" python "$python"
        return 0
    fi

    say "installing Home Assistant 2026.11.0 in a Debian $newest_debian of its own: about 1 minute and 1300 MB"
    mkdir -p "$place"
    # Who finds `python` starts it.
    rm -f "$place/.complete" "$place/python"
    if [ ! -f "$place/.debian" ] || [ "$(cat "$place/.debian")" != "$newest_debian" ]; then
        say "  Debian (1 of 3)"
        make_debian "$place" "$tests" || return 0
        printf '%s\n' "$newest_debian" >"$place/.debian"
    fi
    write_entrance "$place" enter
    # The network as this machine sees it now, which may trust more than Debian does.
    cp --remove-destination /etc/resolv.conf "$place/system/etc/resolv.conf"
    bundle=${SSL_CERT_FILE:-$certificates}
    if [ -f "$bundle" ]; then
        cp "$bundle" "$place/system$certificates"
    fi

    say "  its own packages (2 of 3)"
    if [ ! -x "$place/system/home-assistant/bin/uv" ]; then
        "$place/enter" /usr/bin/python3 -m venv /home-assistant
        "$place/enter" PIP_CERT="$certificates" "$python" -m pip install --quiet --disable-pip-version-check uv
    fi
    uv=("$place/enter" SSL_CERT_FILE="$certificates" UV_CACHE_DIR=/var/cache/uv
        /home-assistant/bin/uv pip install --quiet --python "$python")
    "${uv[@]}" "$newest_home_assistant"
    say "  what its integrations ask for (3 of 3)"
    site=$("$place/enter" "$python" -c 'import homeassistant; print(homeassistant.__path__[0])')
    "${uv[@]}" --constraint "$site/package_constraints.txt" "${newest_integrations[@]}"
    rm -rf "$place/system/var/cache/uv"
    write_entrance "$place" python "$python"
    printf '%s\n' "$wanted" >"$place/.complete"
}

started=$SECONDS
from_package influxdb 'the stories with InfluxDB (parity among them)' influxd
from_package victoria-metrics 'the stories with VictoriaMetrics' victoria-metrics
from_package prometheus 'the checks of the metrics' promtool prometheus
install_mosquitto 'the stories with an MQTT broker'
install_home_assistant 'the stories with Home Assistant (parity among them)'
install_newest_home_assistant 'the stories with the newest Home Assistant'

if [ "$skipped" = 1 ] && [ -n "${CI:-}" ]; then
    say "CI is set, so a skipped peer is a failure"
    exit 1
fi
say "ready in $peers ($((SECONDS - started)) s)"
