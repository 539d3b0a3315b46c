#!/bin/sh
# Prepares the container that grades @HOMEWORK@: runs once, as root, when the bundle is uploaded.
#
# Settings, all optional:
#   AUTOGRADER_ROOT    where source/, submission/ and results/ lie (default /autograder)
#   AUTOGRADER_PYTHON  the system interpreter to build on (default: the newest fitting one)
#   PIP_INDEX_URL      another package index, as pip reads it
#   TORCH_INDEX_URL    a further index for torch's builds
set -eu

ROOT=${AUTOGRADER_ROOT:-/autograder}
SOURCE=$ROOT/source
VENV=$ROOT/venv
export DEBIAN_FRONTEND=noninteractive

fits() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}

# An interpreter outside any home folder: student code runs as another user and must reach it.
find_python() {
    for candidate in ${AUTOGRADER_PYTHON:-} /usr/bin/python3 /usr/bin/python3.13 \
        /usr/bin/python3.12 /usr/bin/python3.11 /usr/local/bin/python3; do
        if [ -x "$candidate" ] && fits "$candidate"; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

install_packages() {
    apt-get update -q && apt-get install -q -y --no-install-recommends "$@"
}

PYTHON=$(find_python) || PYTHON=
if [ -z "$PYTHON" ]; then
    install_packages python3 python3-venv ca-certificates || true
    PYTHON=$(find_python) || PYTHON=
fi
if [ -z "$PYTHON" ]; then  # the distribution's own Python is older than 3.11
    install_packages python3.11 python3.11-venv ca-certificates || true
    PYTHON=$(find_python) || PYTHON=
fi
if [ -z "$PYTHON" ]; then
    echo "setup: no Python 3.11, 3.12 or 3.13 with venv; choose a newer base image" >&2
    exit 1
fi

# Homeworks with kernels are built by a C++ compiler when they are graded.
if find "$SOURCE/@HOMEWORK@" -name '*.cu' | grep -q . && ! command -v g++ >/dev/null 2>&1; then
    install_packages g++
fi

"$PYTHON" -m venv "$VENV"
if [ -n "${TORCH_INDEX_URL:-}" ]; then
    "$VENV/bin/python" -m pip install --no-cache-dir --extra-index-url "$TORCH_INDEX_URL" \
        -r "$SOURCE/requirements.lock"
else
    "$VENV/bin/python" -m pip install --no-cache-dir -r "$SOURCE/requirements.lock"
fi

# The emulator's library, once and ahead: no submission waits for it.
if find "$SOURCE/@HOMEWORK@" -name '*.cu' | grep -q .; then
    (cd "$SOURCE" && "$VENV/bin/python" -c 'from autograder import kernels; kernels.prepare()')
fi

# Real data, where the homework uses some: into the folder that workers may read.
(cd "$SOURCE" && "$VENV/bin/python" -m autograder fetch @HOMEWORK@)

# Read by the grader alone.
if [ -d "$SOURCE/@HOMEWORK@/hidden" ]; then
    chmod -R go= "$SOURCE/@HOMEWORK@/hidden"
    chmod 0700 "$SOURCE/@HOMEWORK@/hidden"
fi
echo "setup: ready to grade @HOMEWORK@ with $("$VENV/bin/python" -V)"
