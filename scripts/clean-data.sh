#!/usr/bin/env bash
# Deletes the data folder of `make run` for good: database, streams, keys, logs. Refuses while a server uses it.
set -euo pipefail

folder="${APIQ_DATA_DIR:-.apiq}"
if [ ! -d "$folder" ]; then
    echo "There is no data folder $folder."
    exit 0
fi
if [ ! -f "$folder/engines.json" ]; then
    echo "$folder does not look like a data folder of apiq (no engines.json); nothing was deleted." >&2
    exit 1
fi

# What a process was started as; nothing when it is gone, or dead and not buried yet.
command_of() {
    if [ -d /proc/self ]; then
        tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || true
    else
        ps -o command= -p "$1" 2>/dev/null || true
    fi
}
pid_in() { head -n 1 "$1" 2>/dev/null || true; }

holder="$(pid_in "$folder/lock")"
if [ -n "$holder" ] && [[ "$(command_of "$holder")" == *apiq* ]]; then
    echo "apiq (process $holder) uses $folder; stop it first." >&2
    exit 1
fi

# Postgres' data is elsewhere when its user cannot reach the data folder.
home="$(sed -n 's/.*"postgresHome": *"\(.*\)".*/\1/p' "$folder/engines.json")"
home="${home:-$folder/postgres}"

# Engines that a killed run left behind.
stop() {
    local pid="$1" what="$2"
    if [ -z "$pid" ] || [[ "$(command_of "$pid")" != *"$what"* ]]; then return 0; fi
    kill -INT "$pid"
    for _ in $(seq 100); do
        [[ "$(command_of "$pid")" == *"$what"* ]] || return 0
        sleep 0.1
    done
    echo "Process $pid does not end; nothing was deleted." >&2
    exit 1
}
stop "$(pid_in "$home/data/postmaster.pid")" "postgres -D"
stop "$(pid_in "$folder/nats/nats.pid")" "nats-server -c"

case "$home" in
*/apiq-*) rm -rf -- "$home" ;;
esac
rm -rf -- "$folder"
echo "Deleted $folder."
