#!/usr/bin/env bash
# Runs a command with the settings of `.env` (NAME=value lines) where the environment does not set them already.
# The file is read, not executed: no expansion, no commands. Quotes around a whole value are taken
# off; without quotes, ` #` begins a comment.
set -euo pipefail

file="${APIQ_ENV_FILE:-.env}"
if [ -f "$file" ]; then
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line="${line%$'\r'}"
        [[ "$line" =~ ^[[:space:]]*(#|$) ]] && continue
        if ! [[ "$line" =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; then
            echo "$file, line $number: not of the form NAME=value" >&2
            exit 1
        fi
        name="${BASH_REMATCH[2]}" value="${BASH_REMATCH[3]}"
        if [[ "$value" =~ ^\"(.*)\"[[:space:]]*$ || "$value" =~ ^\'(.*)\'[[:space:]]*$ ]]; then
            value="${BASH_REMATCH[1]}"
        else
            value="${value%%[[:space:]]#*}"
            value="${value%"${value##*[![:space:]]}"}"
        fi
        if [ -z "${!name+set}" ]; then export "$name=$value"; fi
    done <"$file"
fi
exec "$@"
