#!/bin/sh
# Runs the conformance cases that lie beside the repository: run.sh RUNNER SUITE VERSION COMMAND...
# 77 tells ctest that the test was skipped, because the cases are not on this machine.
runner=$1
suite=$2
version=$3
shift 3
if [ ! -f "$runner" ] || ! command -v python3 >/dev/null; then
    echo "skipped: $runner or python3 is missing"
    exit 77
fi
exec python3 "$runner" "$suite" --v "$version" -- "$@"
