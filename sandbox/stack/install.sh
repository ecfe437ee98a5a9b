#!/bin/sh
# Make .venv hold exactly what requirements.lock says. Quick when it does already; uv where there is one, else pip.
set -u
cd "$(dirname "$0")/../.." || exit 1

done_for=.venv/requirements.lock
log=.local/logs/install.log
oldest='(3, 11)'
newest='(3, 13)'
check="import sys; sys.exit(not $oldest <= sys.version_info[:2] <= $newest)"

cmp -s requirements.lock "$done_for" && .venv/bin/python -c "$check" 2>/dev/null && exit 0

fail() {
    echo "error: $1" >&2
    exit 1
}

# uv finds or brings a Python; without uv the first that fits.
find_python() {
    for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if "$python" -c "$check" 2>/dev/null; then
            "$python" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

mkdir -p -m 700 .local && mkdir -p .local/logs
unset VIRTUAL_ENV PYTHONHOME
if command -v uv >/dev/null 2>&1; then has_uv=1; else has_uv=; fi

if ! .venv/bin/python -c "$check" 2>/dev/null; then
    python=$(find_python) || python=
    if [ -z "$python" ] && [ -z "$has_uv" ]; then
        fail "Python 3.11, 3.12 or 3.13 is needed and none is on the PATH; install one, or name it: make install PYTHON=/path/to/python"
    fi
    rm -rf .venv
    if [ -n "$has_uv" ]; then
        uv venv --quiet --python "${python:->=3.11,<3.14}" .venv >"$log" 2>&1
    else
        "$python" -m venv .venv >"$log" 2>&1
    fi || { rm -rf .venv; fail "no virtual environment can be made: $(grep -v '^ *$' "$log" | tail -n 1) (all of it in $log)"; }
fi

echo "Installing $(grep -c '==' requirements.lock) packages into .venv; this takes a minute or a few, once."
rm -f "$done_for"
if [ -n "$has_uv" ]; then
    uv pip sync --quiet --python .venv/bin/python --compile-bytecode requirements.lock >"$log" 2>&1
else
    .venv/bin/python -m pip install --quiet --compile --requirement requirements.lock >"$log" 2>&1
fi || fail "the packages cannot be installed; is there a network? $(grep -v '^ *$' "$log" | tail -n 1 | cut -c 1-200) (all of it in $log)"
cp requirements.lock "$done_for"
