#!/bin/sh
# Makes .venv with the pinned packages. Run by `make setup`; needs only a shell.
#
#   PYTHON           the interpreter to use (default: the first suitable one found)
#   PIP_INDEX_URL    honoured by pip itself, as all of pip's settings are
#   TORCH_INDEX_URL  an extra package index that has torch's CPU build (see README.md)
set -eu
cd "$(dirname "$0")/.."

fail() { printf 'setup: %s\n' "$1" >&2; exit 1; }

# As root, tests of student code run as another user, who must be able to reach the interpreter.
suitable() {
    "$1" - <<'PY' 2>/dev/null
import os, sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    raise SystemExit(1)
if hasattr(os, "geteuid") and os.geteuid() == 0:
    place = os.path.realpath(sys.base_prefix)
    while place != "/":
        if not os.stat(place).st_mode & 1:
            raise SystemExit(1)
        place = os.path.dirname(place)
PY
}

python=""
for candidate in ${PYTHON:-} python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 && suitable "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    fail "no suitable Python: CPython 3.11, 3.12 or 3.13 is needed (as root, one that other users
can execute, not one below /root). Debian, Ubuntu: apt-get install python3 python3-venv
macOS: brew install python@3.12. Then run make setup again, or name it: make setup PYTHON=/usr/bin/python3"
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv module. Debian, Ubuntu: apt-get install python3-venv"
if ! command -v c++ >/dev/null 2>&1 && ! command -v g++ >/dev/null 2>&1 &&
    ! command -v clang++ >/dev/null 2>&1; then
    fail "no C++ compiler. Debian, Ubuntu: apt-get install g++    macOS: xcode-select --install"
fi

venv=.venv
if [ "$(id -u)" = 0 ] && [ ! -e .venv ]; then
    # A checkout that other users can't enter (below /root, say) needs its packages elsewhere.
    place=$(pwd -P)
    while [ "$place" != / ]; do
        case $(stat -c %a "$place" 2>/dev/null || echo 755) in
            *[1357]) ;;
            *) venv=/opt/llm-systems-$(pwd -P | cksum | cut -d' ' -f1) ;;
        esac
        place=$(dirname "$place")
    done
fi
if [ ! -x .venv/bin/python ]; then
    echo "setup: making $venv with $($python --version)"
    "$python" -m venv "$venv"
    [ "$venv" = .venv ] || ln -sfn "$venv" .venv
fi
# Names and versions of the lock against what is there: a comment changed in it installs nothing.
complete() {
    .venv/bin/python - <<'PY' 2>/dev/null
import re
import sys
from importlib.metadata import version
from pip._vendor.packaging.requirements import Requirement

for line in open("requirements.lock", encoding="utf-8"):
    text = re.sub(r"(^|\s)#.*", "", line).strip()
    if not text:
        continue
    wanted = Requirement(text)
    if wanted.marker and not wanted.marker.evaluate():
        continue
    if not wanted.specifier.contains(version(wanted.name), prereleases=True):
        sys.exit(1)
PY
}

if ! complete; then
    echo "setup: installing the packages of requirements.lock (a few minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r requirements.lock ||
        fail "pip could not install the packages; its message is above. For torch's CPU build see README.md"
fi
touch .venv/.ready
echo "setup: done; \`make doctor\` says what this machine can do"
