#!/bin/sh
# Makes the virtual environment that the component runs in: sh install.sh ARTIFACTS WORK
#
# Greengrass runs this at each start of the nucleus, also when the device is offline: if all is in place it
# does nothing, and asks nobody. What is in place is kept until its successor is complete.
# With a folder ARTIFACTS/wheels, packages come from there and from nowhere else.
set -eu
artifacts=$1
work=$2
requirements=$artifacts/requirements.txt

# Prints a name for what is to be installed. A new patch of Python is no reason to install anew.
name_of='
import hashlib, sys
text = open(sys.argv[1], "rb").read() + repr(sys.version_info[:2]).encode()
print("venv-" + hashlib.sha256(text).hexdigest()[:16])
'
is_usable='
import sys
here = "%s is Python %d.%d" % ((sys.executable,) + tuple(sys.version_info[:2]))
if sys.version_info < (3, 10):
    sys.exit("  %s, which is too old" % here)
try:
    import ensurepip, venv
except ImportError:
    sys.exit("  %s, and cannot make virtual environments: install its venv package"
             " (Debian, Ubuntu: apt-get install python%d.%d-venv)" % ((here,) + tuple(sys.version_info[:2])))
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
    if reason=$("$candidate" -c "$is_usable" 2>&1); then
        python=$candidate
        break
    fi
    reasons="$reasons
$reason"
done
if [ -z "$python" ]; then
    echo "tidegate needs Python 3.10 or newer with its venv module. Found here:${reasons:- no python3}" >&2
    exit 1
fi

venv=$work/$("$python" -c "$name_of" "$requirements")
if ! [ -e "$venv/complete" ]; then
    echo "installing with $python into $venv"
    if ! [ -e "$venv/made" ]; then # else only the packages are missing: the device was offline
        "$python" -m venv --clear "$venv"
        : >"$venv/made"
    fi
    if [ -d "$artifacts/wheels" ]; then
        set -- --no-index --find-links "$artifacts/wheels"
    else
        set --
    fi
    "$venv/bin/python3" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$@" -r "$requirements" || {
        echo "the packages of $requirements could not be installed: is the device online?" >&2
        exit 1
    }
    : >"$venv/complete"
fi
ln -sfn "$venv" "$work/venv"
for old in "$work"/venv-*; do
    [ "$old" -ef "$venv" ] || rm -rf "$old"
done
