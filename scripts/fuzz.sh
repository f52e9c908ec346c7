#!/usr/bin/env bash
# Runs every fuzzer of the module for a while, two at a time, and fails where one
# of them finds something: the input is printed, and lies in the fuzzer's corpus.
# usage: fuzz.sh [TIME [NAME]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:-10s} only=${2:-.}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

fuzz() { # PACKAGE NAME
	"${GO:-go}" test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 20x -parallel 1 "./$1" >"$logs/$2" 2>&1
}

# Go's fuzzer may take the end of its time for a failure when the machine is busy
# (golang.org/issue/75804). It has no input to show then, and gets a second try.
spurious() { # NAME
	grep -q 'context deadline exceeded' "$logs/$1" && ! grep -Eq 'Failing input|/seed#|/[0-9a-f]{16} ' "$logs/$1"
}

one() { # PACKAGE NAME
	if fuzz "$1" "$2" || { spurious "$2" && fuzz "$1" "$2"; }; then
		printf 'ok    %-18s %s\n' "$2" "$(grep -o 'execs: [0-9]*' "$logs/$2" | tail -n 1)"
		return
	fi
	printf 'FAIL  %s in %s\n' "$2" "$1"
	tail -n 100 "$logs/$2" | cut -c -2000
	grep -o 'testdata/fuzz/[A-Za-z0-9_/]*' "$logs/$2" | sort -u | while read -r input; do
		echo "--- $1/$input"
		head -c 4000 "$1/$input"
	done
	return 1
}

grep -r --include='*_test.go' -Eo '^func Fuzz[A-Za-z0-9_]+' cmd internal pkg |
	sed -E 's,/[^/]*:func , ,' | grep -E " .*$only" | sort >"$logs/all"
[ -s "$logs/all" ] || { echo "no fuzzer is called $only" >&2; exit 1; }
status=0 running=0
while read -r package name; do
	if [ "$running" -ge 2 ]; then
		wait -n || status=1
		running=$((running - 1))
	fi
	one "$package" "$name" &
	running=$((running + 1))
done <"$logs/all"
while [ "$running" -gt 0 ]; do
	wait -n || status=1
	running=$((running - 1))
done
exit "$status"
