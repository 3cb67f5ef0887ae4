#!/usr/bin/env bash
# Installs what building and running need and is missing: a C compiler, PostgreSQL, nats-server.
# With the word "tests", also what the guides' commands use: jq, curl.
# Says how to get Rust, but does not install it. Does nothing, quickly, when everything is there.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# The same places as src/local/find.rs.
have_postgres() {
    local folder
    for folder in "$(dirname "$(command -v postgres || echo /nowhere/postgres)")" \
        /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin /usr/pgsql-*/bin; do
        if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ]; then return 0; fi
    done
    return 1
}
have_nats() {
    have nats-server || [ -x /usr/sbin/nats-server ] || [ -x /opt/homebrew/bin/nats-server ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "Installing needs root: run this as root once: $*"
    fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@"; }

install_by_apt() {
    local packages=()
    have cc || packages+=(gcc libc6-dev)
    have_postgres || packages+=(postgresql)
    have_nats || packages+=(nats-server)
    if [ "$for_tests" = yes ]; then
        have jq || packages+=(jq)
        have curl || packages+=(curl)
    fi
    say "Installing by apt: ${packages[*]}"
    apt_get update -qq
    if [[ " ${packages[*]} " == *" postgresql "* ]]; then
        # apiq runs its own instance: the package need not make and start one. Somebody's existing setup stays as it is.
        local conf=/etc/postgresql-common/createcluster.conf
        if [ ! -e "$conf" ]; then
            apt_get install -y -qq --no-install-recommends postgresql-common >/dev/null
            as_root sed -i 's/^#create_main_cluster *=.*/create_main_cluster = false/' "$conf"
        fi
    fi
    apt_get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

install_by_brew() {
    have cc || fail "No C compiler; install one with: xcode-select --install"
    local packages=()
    have_postgres || packages+=(postgresql@16)
    have_nats || packages+=(nats-server)
    if [ "$for_tests" = yes ]; then have jq || packages+=(jq); fi
    if [ "${#packages[@]}" -gt 0 ]; then
        say "Installing by brew: ${packages[*]}"
        brew install --quiet "${packages[@]}"
    fi
}

PATH="$HOME/.cargo/bin:$PATH"
have cargo || fail "Rust is not installed; get it from https://rustup.rs (curl -sSf https://sh.rustup.rs | sh), then run this again."

for_tests=no
if [ "${1:-}" = tests ]; then for_tests=yes; fi
if have cc && have_postgres && have_nats && { [ "$for_tests" = no ] || { have jq && have curl; }; }; then
    exit 0
fi
if have apt-get; then
    install_by_apt
elif [ "$(uname -s)" = Darwin ] && have brew; then
    install_by_brew
else
    fail "Install a C compiler, PostgreSQL 14 or newer and nats-server with this system's package manager, then run this again."
fi
have_postgres || fail "PostgreSQL is still missing after installing; install it by hand so that initdb and postgres are found."
have_nats || fail "nats-server is still missing after installing; install it by hand so that nats-server is on the PATH."
