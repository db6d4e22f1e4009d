#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A level replaces the one before it, and a rollback goes back; with both ways to redirect.
#
# Level 1 changes cmdline_proc_show, level 2 that and meminfo_proc_show, level 3 only eventfd_read.
#
# - 2 over 1, rollback, 3 over 2: functions that a level no longer changes are the original ones
# - a lower level is refused, or goes live with the flag for it; a dry run changes nothing
# - a task asleep in a function that goes away blocks, in each direction
# - unload frees the level and the one before it, and nothing is lost

#@ append: slab_debug=FZPU,kmalloc-*
#@ timeout: 600

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly LIMIT=1500 DOWNGRADE=1 DRY_RUN=2

need_payloads cmdline levels-2 levels-3
original=$(</proc/cmdline)

# levels LEVEL PREVIOUS: everything is as with this level live and that one kept.
levels() {
	local cmdline=$original line3='MemAvailable' eventfd=1 modules
	case $1 in
	1) cmdline+=" kcare=1" ;;
	2) cmdline+=" kcare.multi=1" line3=KcareMulti ;;
	3) eventfd=1001 ;;
	esac
	modules=$(for level in "$@"; do
		[[ $level -eq 0 ]] || echo "kcare_$level"
	done | sort | xargs)
	is "/proc/cmdline with level $1" "$(</proc/cmdline)" "$cmdline"
	is "/proc/meminfo with level $1" "$(sed -n '3s/:.*//p' /proc/meminfo)" "$line3"
	is "eventfd with level $1" "$(evfd value)" "$eventfd"
	is "live and previous" "$(kpush info | grep -E '^(level|previous) ' | xargs)" "level $1 previous $2"
	is "in /proc/modules" "$(grep -o '^kcare_[0-9]*' /proc/modules | sort | xargs)" "$modules"
	is "in /sys/module" "$(find /sys/module -maxdepth 1 -name 'kcare_*' -printf '%f\n' | sort | xargs)" "$modules"
	is "where the code is" "$(for level in $modules; do echo "$level $(<"/sys/module/$level/sections/.text")"; done)" \
		"$(sed -nE 's/^(kcare_[0-9]+) .* (0x[0-9a-f]+)( .*)?$/\1 \2/p' /proc/modules | sort)"
	is "in sysfs" "$(cat "$VIEWS"/{state,level,previous_level} | xargs)" "$([[ $1 -eq 0 ]] && echo none || echo applied) $1 $2"
	case $1 in
	0) is "redirected" "$(redirected)" "" ;;
	1) is "redirected" "$(redirected)" "cmdline_proc_show" ;;
	2) is "redirected" "$(redirected)" "cmdline_proc_show meminfo_proc_show" ;;
	3) is "redirected" "$(redirected)" "eventfd_read" ;;
	esac
}

# applied LEVEL: the log of an apply with the strategy under test.
applied() {
	local functions=1
	[[ $1 -ne 2 ]] || functions=2
	if [[ $strategy -eq 2 ]]; then
		applied_log "$1" $functions 0 $functions
	else
		applied_log "$1" $functions $functions 0
	fi
}

rolled_back_log() {
	echo "rolled back from patch level $1 to $2, stopped for N us, N retries"
}

sleeper() {
	evfd sleep >"$WORK/sleeper" &
	pid=$!
	retry asleep_in "$pid" eventfd_read
}

leaves() {
	kill -TERM "$pid"
	wait "$pid"
	is "value of the task that slept" "$(<"$WORK/sleeper")" "$1"
}

same_tests() {
	local strategy=$1 label=$2 state
	state=$(state)

	start_test "$label: 2 over 1, and back"
	answers "apply 1" ok ok kpush apply "$(payload cmdline)"
	levels 1 0
	answers "rollback with nothing before" ENOENT no-previous kpush rollback
	answers "apply 2" ok ok kpush apply "$(payload levels-2)"
	levels 2 1
	succeeds kcarectl --rollback
	levels 1 0
	answers "rollback, again" ENOENT no-previous kpush rollback
	levels 1 0
	check_result "$(applied 1)
rollback refused (no-previous): there is no previous level to go back to
$(applied 2)
patch level 1 replaced
$(rolled_back_log 2 1)
rollback refused (no-previous): there is no previous level to go back to"

	start_test "$label: 3 over 2 over 1"
	answers "apply 2" ok ok kpush apply "$(payload levels-2)"
	levels 2 1
	answers "apply 3" ok ok kpush apply "$(payload levels-3)"
	levels 3 2
	answers "rollback" ok ok kpush rollback
	levels 2 0
	answers "apply 3" ok ok kpush apply "$(payload levels-3)"
	levels 3 2
	check_result "$(applied 2)
patch level 1 replaced
$(applied 3)
patch level 2 replaced
$(rolled_back_log 3 2)
$(applied 3)
patch level 2 replaced"

	start_test "$label: a lower level"
	answers "apply 1" ESTALE lower-level kpush apply "$(payload cmdline)"
	levels 3 2
	answers "apply 1, told to" ok ok kpush apply -f $DOWNGRADE "$(payload cmdline)"
	levels 1 3
	answers "rollback" ok ok kpush rollback
	levels 3 0
	check_result "verifying patch...
verified successfully
patch refused (lower-level): patch level 1 cannot be applied over level 3: a higher level is live
$(applied 1)
patch level 3 replaced
$(rolled_back_log 1 3)"

	start_test "$label: a level that is kept can be applied again"
	answers "apply 2, told to" ok ok kpush apply -f $DOWNGRADE "$(payload levels-2)"
	levels 2 3
	answers "apply 3" ok ok kpush apply "$(payload levels-3)"
	levels 3 2
	check_result

	start_test "$label: unload frees both"
	answers "unload" ok ok kpush unload
	levels 0 0
	is "state" "$(state)" "$state"
	answers "rollback" ENOENT nothing-applied kpush rollback
	check_result "$(unloaded_log 3 1)
rollback refused (nothing-applied): nothing is applied"

	start_test "$label: a level is kept until told otherwise"
	fails 4 kcarectl --forget
	answers "apply 1" ok ok kpush apply "$(payload cmdline)"
	answers "apply 2" ok ok kpush apply "$(payload levels-2)"
	levels 2 1
	succeeds kcarectl --forget
	is "message" "$out" "Patch level 1 is no longer kept for a rollback"
	levels 2 0
	answers "rollback" ENOENT no-previous kpush rollback
	like "history" "$(kcarectl --history | tail -n 2 | head -n 1)" 'UTC  forget    2 -> 2          ok$'
	answers "unload" ok ok kpush unload
	is "state" "$(state)" "$state"
	check_result "forget refused (no-previous): there is no previous level to go back to
$(applied 1)
$(applied 2)
patch level 1 replaced
patch level 1 is no longer kept for a rollback
rollback refused (no-previous): there is no previous level to go back to
$(unloaded_log 2 2)"

	start_test "$label: a dry run changes nothing"
	answers "try 1 on nothing" ok ok kpush apply -f $DRY_RUN "$(payload cmdline)"
	like "message" "$(cut -f5 <<<"$answer")" 'no task is inside'
	levels 0 0
	answers "apply 1" ok ok kpush apply "$(payload cmdline)"
	answers "try 2 over 1" ok ok kpush apply -f $DRY_RUN "$(payload levels-2)"
	levels 1 0
	sleeper
	answers "try 3 with a task inside" ok ok kpush apply -f $DRY_RUN "$(payload levels-3)"
	like "message" "$(cut -f5 <<<"$answer")" "task $pid \(evfd\) in eventfd_read\+"
	levels 1 0
	leaves 1
	answers "try 1 over 1" EEXIST already-live kpush apply -f $DRY_RUN "$(payload cmdline)"
	answers "unload" ok ok kpush unload
	is "state" "$(state)" "$state"
	check_result

	start_test "$label: a task in the original of a function that a level adds"
	answers "apply 2" ok ok kpush apply "$(payload levels-2)"
	sleeper
	answers "apply 3" ETIMEDOUT blocked kpush apply "$(payload levels-3)"
	like "message" "$(cut -f5 <<<"$answer")" "task $pid \(evfd\) in eventfd_read\+0x[0-9a-f]+$ASLEEP;$"
	levels 2 0
	leaves 1
	answers "apply 3" ok ok kpush apply "$(payload levels-3)"
	levels 3 2
	check_result

	start_test "$label: a task in a function of the level that goes"
	sleeper
	answers "rollback" ETIMEDOUT blocked kpush rollback
	like "message" "$(cut -f5 <<<"$answer")" "task $pid \(evfd\) in eventfd_read\+0x[0-9a-f]+ of the patch$ASLEEP;$"
	levels 3 2
	answers "apply 1, told to" ETIMEDOUT blocked kpush apply -f $DOWNGRADE "$(payload cmdline)"
	like "message" "$(cut -f5 <<<"$answer")" "task $pid \(evfd\) in eventfd_read\+0x[0-9a-f]+ of the patch$ASLEEP;$"
	levels 3 2
	answers "apply 2, which is kept" ETIMEDOUT blocked kpush apply -f $DOWNGRADE "$(payload levels-2)"
	levels 3 2
	answers "try 2" ok ok kpush apply -f $((DOWNGRADE | DRY_RUN)) "$(payload levels-2)"
	levels 3 2
	answers "unload" ETIMEDOUT blocked kpush unload
	levels 3 2
	leaves 1001
	answers "rollback" ok ok kpush rollback
	levels 2 0
	answers "unload" ok ok kpush unload
	is "state" "$(state)" "$state"
	check_result
}

load_kcare timeout_ms=$LIMIT
same_tests 1 direct

start_test "nothing is lost"
round() {
	kpush apply "$(payload cmdline)" "$(payload levels-2)" "$(payload levels-3)"
	kpush rollback
	kpush apply -f $DOWNGRADE "$(payload cmdline)"
	kpush unload
}
rounds() {
	for ((i = 0; i < 3; i++)); do
		round
	done >"$WORK/answers"
	is "refused" "$(cut -f2 "$WORK/answers" | sort | uniq -c | xargs)" "18 ok"
}
lost rounds >"$WORK/lost"
is "lost" "$(<"$WORK/lost")" ""
check_result

reload_kcare timeout_ms=$LIMIT redirect=2
same_tests 2 ipmodify
