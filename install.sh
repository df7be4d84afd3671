#!/bin/sh
# Makes the virtual environment that the component runs in: sh install.sh ARTIFACTS WORK
#
# Greengrass runs this at each start of the nucleus, also when the device is offline: if all is in place it
# does nothing, and asks nobody. What is in place is kept until its successor is complete.
# With a folder ARTIFACTS/wheels, packages come from there and from nowhere else; the file wheels/targets says
# which Pythons they are for.
set -eu
artifacts=$1
work=$2
requirements=$artifacts/requirements.txt
wheels=$artifacts/wheels

fail() {
    echo "$1" >&2
    exit 1
}

# Prints a name for what is to be installed. A new patch of Python is no reason to install anew.
name_of='
import hashlib, sys
text = open(sys.argv[1], "rb").read() + repr(sys.version_info[:2]).encode()
print("venv-" + hashlib.sha256(text).hexdigest()[:16])
'
is_usable='
import os, platform, sys
version = tuple(sys.version_info[:2])
here = "%s is Python %d.%d" % ((sys.executable,) + version)
if version < (3, 10):
    sys.exit("  %s, which is too old" % here)
try:
    import ensurepip, venv
except ImportError:
    sys.exit("  %s, and cannot make virtual environments: install its venv package"
             " (Debian, Ubuntu: apt-get install python%d.%d-venv)" % ((here,) + version))
target = "cp%d%d-%s" % (version + (platform.machine(),))
if os.path.exists(sys.argv[1]) and target not in open(sys.argv[1]).read().split():
    sys.exit("  %s, and the artifact has no wheels for %s, but for: %s"
             % (here, target, " ".join(open(sys.argv[1]).read().split())))
'

# Ask the Python that is in use, not the newest: one that was installed since is no reason either.
if [ -e "$work/venv/complete" ] && name=$("$work/venv/bin/python3" -c "$name_of" "$requirements") &&
    [ "$work/venv" -ef "$work/$name" ]; then
    exit 0
fi

python=
reasons=
for candidate in python3.16 python3.15 python3.14 python3.13 python3.12 python3.11 python3.10 python3; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if reason=$("$candidate" -c "$is_usable" "$wheels/targets" 2>&1); then
        python=$candidate
        break
    fi
    reasons="$reasons
$reason"
done
[ -n "$python" ] || fail "tidegate needs Python 3.10 or newer with its venv module. Found here:${reasons:- no python3}"

venv=$work/$("$python" -c "$name_of" "$requirements")
if ! [ -e "$venv/complete" ]; then
    echo "installing with $python into $venv"
    if ! [ -e "$venv/made" ]; then # else only the packages are missing: the device was offline
        "$python" -m venv --clear "$venv" ||
            fail "$python could not make a virtual environment in $work: is there room, and is its venv package whole?"
        "$venv/bin/python3" -m pip --version >/dev/null 2>&1 ||
            fail "$python makes virtual environments without pip: install its pip (Debian, Ubuntu: apt-get install python3-pip)"
        : >"$venv/made"
    fi
    if [ -d "$wheels" ]; then
        set -- --no-index --find-links "$wheels"
        remedy="are all of them in $wheels?"
    else
        set --
        remedy="is the device online?"
    fi
    "$venv/bin/python3" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$@" -r "$requirements" ||
        fail "the packages of $requirements could not be installed: $remedy"
    : >"$venv/complete"
fi
# The one that was in use stays: its process may still run, and going back to it needs no network.
for old in "$work"/venv-*; do
    [ "$old" -ef "$venv" ] || [ "$old" -ef "$work/venv" ] || rm -rf "$old"
done
ln -sfn "$venv" "$work/venv"
