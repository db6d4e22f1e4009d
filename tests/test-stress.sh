#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Levels come and go at random while everything else does, too.
#
# - threads are always in the patched functions, and every result fits to the level that is live (programs/stress.c)
# - meanwhile a target module comes and goes, a CPU goes and comes, and tracers of functions are switched on and off
# - what is refused leaves everything as it was
# - nothing is lost, and the kernel has nothing to say
#
# STRESS_OPERATIONS is how many requests to apply, roll back or unload; 60 by default. STRESS_SEED repeats a run's dice.

# An interrupt in return_to_handler() between its call and the instruction behind that, when an unwinder takes the int3 for
# the caller; the kernel itself warns of that where the function graph tracer runs.
#@ expected: WARNING: stack going in the wrong direction\? at return_to_handler\+
#@ timeout: 900
#@ append: slab_debug=FZPU,kmalloc-* kmemleak=on

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly CPU=/sys/devices/system/cpu/cpu1
operations=${STRESS_OPERATIONS:-60}
seed=${STRESS_SEED:-$SRANDOM}

need_payloads soak stress-2 stress-3 stress-4
# Tasks that stay longer are woken: that is to happen often.
load_kcare nudge_ms=250
modprobe -r dummy 2>/dev/null
state=$(state)
all=("$(payload soak)" "$(payload stress-2)" "$(payload stress-3)" "$(payload stress-4)")

# nap SECONDS: not longer than that.
nap() {
	sleep "$((RANDOM % $1)).$((RANDOM % 10))"
}

come_and_go() {
	while [[ ! -e $WORK/stop ]]; do
		modprobe dummy numdummies=1 || echo "modprobe failed"
		nap 2
		modprobe -r dummy || echo "modprobe -r failed"
	done
}

plug() {
	while [[ ! -e $WORK/stop ]]; do
		echo 0 >"$CPU/online"
		nap 2
		echo 1 >"$CPU/online"
		nap 2
	done
}

trace() {
	printf '%s\n' cmdline_proc_show 'eventfd_*' 'dummy_*' vfs_read >"$TRACING/set_ftrace_filter"
	while [[ ! -e $WORK/stop ]]; do
		echo function >"$TRACING/current_tracer"
		nap 2
		echo function_graph >"$TRACING/current_tracer"
		nap 2
		echo nop >"$TRACING/current_tracer"
	done
	echo >"$TRACING/set_ftrace_filter"
}

load() {
	# Tasks come and go, and their pages with them.
	while [[ ! -e $WORK/stop ]]; do
		grep -c . /proc/self/maps /proc/modules >/dev/null
	done
}

# all_at_once OPERATIONS: stress, with everything beside it; what the program prints is in $out, what the others complain about in
# $WORK/NAME.
all_at_once() {
	local beside job jobs=()
	rm -f "$WORK/stop"
	for beside in come_and_go plug trace load; do
		[[ $beside != plug || -w $CPU/online ]] || continue
		$beside >"$WORK/$beside" 2>&1 &
		jobs+=($!)
	done
	run stress -s "$seed" "$1" "${all[@]}"
	touch "$WORK/stop"
	for job in "${jobs[@]}"; do
		wait "$job"
	done
}

start_test "what is kept once"
all_at_once 3
is "status" "$status" 0
memory >"$WORK/memory"
check_result
# The lines for each switch are not of interest on the console; warnings are.
dmesg -n 5

start_test "$operations operations, with seed $seed"
all_at_once "$operations"
printf '%s\n' "$out" | sed 's/^/# /'
is "status" "$status" 0
like "result" "$(tail -n 1 <<<"$out")" "^$operations operations, [1-9][0-9]* switches, [0-9]+ blocked; calls: [1-9][0-9]* cmdline_proc_show, [1-9][0-9]* eventfd_read, [1-9][0-9]* dummy_get_stats64 .*; 0 wrong$"
is "complaints of what goes on beside it" "$(cat "$WORK"/{come_and_go,plug,trace,load} 2>/dev/null)" ""
printf '# longest stop: %s us\n' "$(sed -n 's/^stop-max-ns: \([0-9]*\)...$/\1/p' /dev/kcare)"
check_result

nothing_is_left "$state"
