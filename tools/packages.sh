#!/usr/bin/env bash
# Installs what Debian has, the tests need and the machine lacks, if this is root's shell; else it says what is missing. Rust is not
# among it.
set -u

# package:command, installed only where the command is missing.
missing=()
for pair in build-essential:cc build-essential:make perl:perl redis-server:redis-server default-jre-headless:java maven:mvn \
    clang:clang cmake:cmake pkg-config:pkg-config valgrind:valgrind; do
    command -v "${pair#*:}" >/dev/null 2>&1 || missing+=("${pair%%:*}")
done
"${PYTHON:-python3}" -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "missing: ${missing[*]}"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq &&
            apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}" >/dev/null ||
            echo "apt-get could not install: ${missing[*]}"
    fi
fi
