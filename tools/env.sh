# Sourced by the scripts beside it: where the project is, which PostgreSQL it is built for, how to fail.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly root
# Newest first; each has a cargo feature pgNN in extension/Cargo.toml.
readonly supported_versions="17 16 15"

# The caller's own connection settings must never point these scripts at another server.
for variable in "${!PG@}"; do
    [[ $variable == PG_CONFIG || $variable == PGRX_HOME ]] || unset "$variable"
done
unset variable

# Where the scripts put clusters; the tests look there too.
clusters=${KRONOS_CLUSTERS:-$root/target}
readonly clusters

say() { printf 'kronos: %s\n' "$*"; }

# die MESSAGE [LINE...]: one line that says what is wrong, then lines that say what to do.
die() {
    printf 'kronos: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '        %s\n' "$line" >&2; done
    exit 1
}

# Major version of the server that a pg_config belongs to; fails unless its headers and binaries are there.
server_version() {
    local pg_config=$1 version
    [[ -x $pg_config ]] || return 1
    version=$("$pg_config" --version 2> /dev/null) && [[ $version =~ ^PostgreSQL\ ([0-9]+) ]] || return 1
    [[ -f $("$pg_config" --includedir-server)/postgres.h && -x $("$pg_config" --bindir)/postgres ]] || return 1
    printf '%s\n' "${BASH_REMATCH[1]}"
}

# The pg_config to build for: PG_CONFIG when set, else that of the newest usable installation.
find_pg_config() {
    local version candidate found
    if [[ -n ${PG_CONFIG:-} ]]; then
        candidate=$(command -v "$PG_CONFIG") || die "PG_CONFIG=$PG_CONFIG does not exist"
        found=$(server_version "$candidate") ||
            die "PG_CONFIG=$PG_CONFIG has no server with its headers" \
                "Install the server and its development package (Debian: postgresql-server-dev-NN)."
        [[ " $supported_versions " == *" $found "* ]] ||
            die "PG_CONFIG=$PG_CONFIG is PostgreSQL $found; supported are: $supported_versions"
        printf '%s\n' "$candidate"
        return
    fi
    for version in $supported_versions; do
        for candidate in "/usr/lib/postgresql/$version/bin/pg_config" "/usr/pgsql-$version/bin/pg_config" \
            "/usr/local/pgsql/bin/pg_config" "$(command -v pg_config || true)"; do
            if [[ -n $candidate ]] && found=$(server_version "$candidate") && [[ $found == "$version" ]]; then
                printf '%s\n' "$candidate"
                return
            fi
        done
    done
    return 1
}

# Sets pg_config and pg_version, or says what is missing.
require_postgres() {
    pg_config=$(find_pg_config) ||
        die "no PostgreSQL ($supported_versions) with server headers found" \
            "Run 'make setup', or set PG_CONFIG to the pg_config of your server."
    pg_version=$(server_version "$pg_config")
}

# What apt needs before it to act as root: nothing, or sudo where it asks no password; fails where neither helps.
elevation() {
    if [[ $(id -u) -eq 0 ]]; then return; fi
    if ! sudo -n true 2> /dev/null; then return 1; fi
    printf 'sudo -n\n'
}

# Where files go that the server's user must read: target/NAME, or below /var/lib with target/NAME a link to it when
# that user cannot enter the project (a clone in root's home, say). Prints the folder; makes it.
server_user=$(if [[ $(id -u) -eq 0 ]]; then echo postgres; else id -un; fi)
readonly server_user
folder_for_server() {
    local folder=$1 elsewhere
    mkdir -p "${folder%/*}"
    if [[ ! -e $folder ]]; then
        rm -f "$folder"
        mkdir "$folder"
        if [[ $(id -u) -eq 0 ]] && ! runuser -u "$server_user" -- test -r "$folder"; then
            rmdir "$folder"
            elsewhere=/var/lib/kronos-dev/$(printf '%s' "$root" | sha256sum | cut -c1-12)/${folder#"$root/target/"}
            mkdir -p "$elsewhere"
            ln -sfn "$elsewhere" "$folder"
            say "user $server_user cannot enter $root: $folder is $elsewhere" >&2
        fi
    fi
    (cd "$folder" && pwd -P)
}
