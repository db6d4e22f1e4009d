#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Apply and unload many times while the machine is busy.
#
# - every call of the patched functions gives what the state at that time gives (programs/soak.c)
# - nothing is refused, no area of vmalloc is lost (test-stress.sh looks at all memory), nothing is logged that should not be
#
# SOAK_CYCLES is how many times; 200 by default.

#@ timeout: 900

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

cycles=${SOAK_CYCLES:-200}
need_payloads soak
command -v stress-ng >/dev/null || skip "there is no stress-ng"
load_kcare
state=$(state)

# Once before the count, for what is kept.
soak "$(payload soak)" 1 >/dev/null
memory >"$WORK/memory"
# Six lines for each cycle are not of interest on the console; warnings are.
dmesg -n 5

start_test "$cycles cycles on a busy machine"
# All CPUs compute, tasks come and go and talk through pipes; soak itself has 400 threads that sleep and wake up. Threads
# that sleep for microseconds, as with stress-ng --sleep, would leave an emulated machine no time for anything else.
stress-ng --quiet --cpu 0 --fork 1 --pipe 1 --temp-path "$WORK" --timeout 0 >"$WORK/stress" 2>&1 &
stress=$!
on_exit kill "$stress"
retry pgrep -x stress-ng-cpu
succeeds soak "$(payload soak)" "$cycles"
printf '%s\n' "$out" | sed 's/^/# /'
is "failures" "$(kpush info | sed -n 's/^failures //p')" 0
like "result" "$out" "^$cycles cycles, [1-9][0-9]* calls of cmdline_proc_show, [1-9][0-9]* of eventfd_read, 0 wrong$"
succeeds pgrep -x stress-ng-cpu
printf '# longest stop: %s us\n' "$(kpush info >/dev/null && sed -n 's/^stop-max-ns: \([0-9]*\)...$/\1/p' /dev/kcare)"
kill "$stress"
wait "$stress" 2>/dev/null
check_result

no_stress() {
	! pgrep -x 'stress-ng.*'
}
retry no_stress
nothing_is_left "$state"
