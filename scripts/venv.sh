#!/bin/sh
# Makes a virtual environment that holds the packages of the given requirement files.
#
#   scripts/venv.sh FOLDER FILE...
#
# VENV_OPTIONS go to venv when it is made: --system-site-packages where it is to see TensorRT.
# PYTHON names the interpreter to use; without it the system's python3 is taken, or if that is too
# old, too new or not whole, another one that fits. What is installed is remembered by a stamp a
# file, so a second call returns at once.
set -eu

folder=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
log=$here/.cache/$(basename "$folder").log

version_of() {
    "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null
}

# The versions that there are wheels for; of NumPy 1.26, which Jazzy's packages need, up to 3.12.
case " $* " in
    *ros-jazzy*) newest=12 for=' for ROS 2 Jazzy' ;;
    *) newest=14 for= ;;
esac

supported() {
    minor=${1#3.}
    minor=${minor%%.*}
    case $1 in 3.*) [ "$minor" -ge 10 ] 2>/dev/null && [ "$minor" -le $newest ] ;; *) false ;; esac
}

# Sets $python. A name that exists may still not run (a pyenv shim) or lack ensurepip (Debian
# without python3-venv), so each candidate is tried.
find_python() {
    found=
    all='python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10'
    for python in ${PYTHON:-$all}; do
        command -v "$python" >/dev/null 2>&1 || continue
        version=$(version_of "$python") || version='does not run'
        if ! supported "$version"; then
            found="$found $python ($version)"
        elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            found="$found $python ($version, without the venv module)"
        else
            return 0
        fi
    done
    echo "Needs Python 3.10 to 3.$newest with the venv module$for; found:${found:- none}." >&2
    echo 'On Debian and Ubuntu: apt-get install python3 python3-venv. An interpreter in another' >&2
    echo "place can be named: make PYTHON=/path/to/python3.$newest ..." >&2
    return 1
}

# True when the environment is whole, runs, and has the version of PYTHON, if that is given.
intact() {
    [ -x "$folder/bin/pip" ] || return 1
    version=$(version_of "$folder/bin/python") && supported "$version" || return 1
    [ -z "${PYTHON:-}" ] || [ "$version" = "$(version_of "$PYTHON")" ]
}

stamp_of() {
    echo "$folder/.installed-$(basename "$1")"
}

missing() { # Is any of the files newer in content than what was installed?
    for file; do
        [ "$(cksum <"$file")" = "$(cat "$(stamp_of "$file")" 2>/dev/null)" ] || return 0
    done
    return 1
}

cd "$here"
mkdir -p .cache
if command -v flock >/dev/null; then # two makes at once: the second waits, then finds it done
    exec 9>.cache/venv.lock
    flock 9
fi
if intact; then
    missing "$@" || exit 0
    python=$folder/bin/python
else
    find_python
    # shellcheck disable=SC2086  # options are words on purpose
    "$python" -m venv --clear ${VENV_OPTIONS:-} "$folder"
fi
echo "Installing $(echo "$*" | sed 's/[a-z]*\///g; s/\.txt//g') into $folder" \
    "(Python $(version_of "$python")); the first time takes a minute or two ..."
options=
for file; do
    rm -f "$(stamp_of "$file")"
    options="$options -r $file"
done
# shellcheck disable=SC2086  # options are words on purpose; our file names have no spaces
if ! "$folder/bin/python" -m pip install --disable-pip-version-check --prefer-binary $options \
    >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "The installation failed; all of its output is in $log." >&2
    echo 'ROS 2 wheels exist for Linux on x86_64 with glibc 2.28 or newer. Elsewhere install ROS 2' >&2
    echo 'and build the package with colcon (see README.md, On a car).' >&2
    exit 1
fi
for file; do
    stamp=$(stamp_of "$file")
    cksum <"$file" >"$stamp"
done
