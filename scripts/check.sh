#!/bin/sh
# Runs the given stages one after the other, up to the first that fails, and ends with a summary.
#
#   scripts/check.sh PYTHON STAGE...      stages: ruff, mypy, pytest, coverage
#
# pytest takes further options from PYTEST_ADDOPTS; without any it runs three workers on two cores,
# as the tests wait half of their time, each with a ROS domain of its own, and the tests of one file
# in one worker.
set -u

python=$1
shift

# Without the CUDA toolkit most tests of the GPU path are skipped, and say nothing of coverage.
omit=
[ -e "${CUDA_HOME:-/usr/local/cuda}/include/cuda.h" ] || omit='--omit=seg_node/gpu/*'

workers=
# shellcheck disable=SC2086  # words on purpose
[ -n "$(echo ${PYTEST_ADDOPTS:-})" ] || workers="-n $(((3 * $(nproc) + 1) / 2)) --dist loadfile --no-loadscope-reorder"

run() {
    case $1 in
        ruff) "$python" -m ruff check . ;;
        mypy) "$python" -m mypy ;;
        pytest) rm -f .coverage .coverage.* && "$python" -m coverage run -m pytest $workers ;;
        coverage) "$python" -m coverage combine --quiet && "$python" -m coverage report $omit ;;
        *) echo "unknown stage $1" >&2; return 2 ;;
    esac
}

summary=
status=0
for stage; do
    if [ $status -ne 0 ]; then
        summary="$summary  $stage: not run"
        continue
    fi
    echo "== $stage"
    start=$(date +%s)
    run "$stage" || status=$?
    [ $status -eq 0 ] && verdict=ok || verdict=FAILED
    summary="$summary  $stage: $verdict ($(($(date +%s) - start)) s)"
done
echo "==$summary"
exit $status
