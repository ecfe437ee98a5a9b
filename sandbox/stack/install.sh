#!/bin/sh
# Make .venv hold exactly the packages of requirements.lock, and the project in editable form. Quick where it does already.
# uv installs them; a machine without uv gets it from the package index, into .local/uv.
set -u
cd "$(dirname "$0")/../.." || exit 1

python_env=.venv/bin/python
done_lock=.venv/requirements.lock
done_project=.venv/pyproject.toml
log=.local/logs/install.log
oldest='(3, 11)'
newest='(3, 13)'
check="import sys; sys.exit(not $oldest <= sys.version_info[:2] <= $newest)"

fail() {
    echo "error: $1" >&2
    exit 1
}

if [ -n "${PYTHON:-}" ] && ! "$PYTHON" -c "$check" 2>/dev/null; then
    version=$("$PYTHON" -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || version="not a Python"
    fail "PYTHON is $PYTHON ($version); Python 3.11, 3.12 or 3.13 is needed"
fi

if "$python_env" -c "$check" 2>/dev/null && cmp -s requirements.lock "$done_lock" && cmp -s pyproject.toml "$done_project"; then
    exit 0
fi

# PYTHON, or the first that fits.
find_python() {
    for python in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if "$python" -c "$check" 2>/dev/null; then
            "$python" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# Run a command; show its output but for the list of packages, and keep all of it in the log.
shown() {
    { "$@" 2>&1; echo "exit $?"; } | tee -a "$log" | grep --line-buffered -v '^ [-+~] \|^exit ' || :
    [ "$(tail -n 1 "$log")" = "exit 0" ]
}

mkdir -p -m 700 .local && mkdir -p .local/logs && : >"$log"
unset VIRTUAL_ENV PYTHONHOME
python=$(find_python) || python=

uv=$(command -v uv) || uv=.local/uv/bin/uv
if ! "$uv" --version >/dev/null 2>&1; then
    [ -n "$python" ] || fail "Python 3.11, 3.12 or 3.13 is needed and none is on the PATH; name it: make install PYTHON=/path/to/python"
    echo "Fetching uv, which installs the packages, into .local/uv"
    rm -rf .local/uv
    shown "$python" -m venv .local/uv && shown .local/uv/bin/python -m pip install --quiet --disable-pip-version-check uv ||
        fail "uv cannot be installed; is there a network? (full log: $log)"
    uv=.local/uv/bin/uv
fi

if ! "$python_env" -c "$check" 2>/dev/null; then
    rm -rf .venv
    # With no fitting Python on the PATH, uv fetches one.
    shown "$uv" venv --python "${python:->=3.11,<3.14}" .venv || { rm -rf .venv; fail "no virtual environment can be made (full log: $log)"; }
fi

if ! cmp -s requirements.lock "$done_lock"; then
    echo "Installing the packages of requirements.lock into .venv, once"
    rm -f "$done_lock" "$done_project"
    # Python compiles what it imports, a fifth of all files: quicker than all of them now, unless it may not keep the result.
    shown "$uv" pip sync --python "$python_env" ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} requirements.lock ||
        fail "the packages cannot be installed; is there a network? (full log: $log)"
    cp requirements.lock "$done_lock"
fi

# The project itself, so that its command and its entry points are there. Tests and the stack also find it by PYTHONPATH.
if grep -q '^\[build-system\]' pyproject.toml; then
    shown "$uv" pip install --python "$python_env" --no-deps --editable . || fail "the project cannot be installed (full log: $log)"
fi
cp pyproject.toml "$done_project"
