#!/bin/sh
# Times `ci` from process start to exit: run.sh [CI] [RUNS]. Prints the median and the slowest of RUNS, and the peak
# memory of one more run. Needs python3 and git.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ci=${1:-$here/../target/release/ci}
runs=${2:-21}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for jobs in 10 1000 10000; do
    python3 "$here/monorepo.py" "$work/$jobs" "$jobs"
done

measure() {
    python3 - "$runs" "$@" <<'PYTHON'
import os, statistics, subprocess, sys, time

runs, command = int(sys.argv[1]), sys.argv[2:]


def once():
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return (time.perf_counter() - start) * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024


once()
wall, cpu, peak = zip(*(once() for _ in range(runs)))
print(
    f"{command[1]:5} {os.path.basename(command[-1]):>6} jobs   wall {statistics.median(wall):7.1f} ms"
    f" (slowest {max(wall):7.1f})   cpu {statistics.median(cpu):7.1f} ms   peak {max(peak):6.1f} MiB"
)
PYTHON
}

measure "$ci" lint -C "$work/10"
for jobs in 10 1000 10000; do
    measure "$ci" plan -C "$work/$jobs"
done
