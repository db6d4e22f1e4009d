#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Shadow variables: fields that a patch adds to the kernel's objects. Here eventfds get a count of writes, from 4200, and
# those that are made after the patch a mark.
#
# - an eventfd that was there before gets its count when it is written to
# - one made afterwards has its mark too; with the eventfd, its count goes away
# - unload frees what is left, and the next apply starts anew; no memory is lost

#@ append: slab_debug=FZPU,kmalloc-*

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads shadow
load_kcare
state=$(state)
# shellcheck disable=SC2034 # for kcare_log
patches=shadow

declare -A pids pipes

# keep NAME: a process with an eventfd.
keep() {
	local pipe
	mkfifo "$WORK/$1.in"
	evfd keep <"$WORK/$1.in" >"$WORK/$1.out" &
	pids[$1]=$!
	exec {pipe}>"$WORK/$1.in"
	pipes[$1]=$pipe
	# The shell itself uses file 3 in front of the program.
	retry grep -q ^eventfd-count "/proc/${pids[$1]}/fdinfo/3"
}

# write_to NAME
write_to() {
	local before
	before=$(wc -l <"$WORK/$1.out")
	echo 1 >&"${pipes[$1]}"
	retry lines "$WORK/$1.out" $((before + 1))
}

lines() {
	[[ $(wc -l <"$1") -eq $2 ]]
}

# drop NAME
drop() {
	local pipe=${pipes[$1]}
	exec {pipe}>&-
	wait "${pids[$1]}"
	rm "$WORK/$1.in"
}

# added NAME: what the patch adds to the eventfd's information.
added() {
	grep -E '^eventfd-(writes|new): ' "/proc/${pids[$1]}/fdinfo/3" | xargs
}

apply() {
	kpush apply "$(payload shadow)" | cut -f2,3
}

keep old
write_to old

start_test "eventfds get fields"
is "before" "$(added old)" ""
is "apply" "$(apply)" $'ok\tok'
is "not written to yet" "$(added old)" ""
write_to old
write_to old
is "written to" "$(added old)" "eventfd-writes: 4202"
keep new
is "new one" "$(added new)" "eventfd-new: 1"
write_to new
is "new one, written to" "$(added new)" "eventfd-writes: 4201 eventfd-new: 1"
drop new
is "freed with it" "$(kcare_log | grep '^shadow')" "shadow: freed after 4201 writes"
check_result

start_test "unload frees what is left"
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
is "freed" "$(kcare_log | grep '^shadow')" "shadow: freed after 4202 writes"
is "afterwards" "$(added old)" ""
write_to old
is "apply" "$(apply)" $'ok\tok'
is "anew" "$(added old)" ""
write_to old
is "written to" "$(added old)" "eventfd-writes: 4201"
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
check_result

start_test "no memory is lost"
rounds() {
	for ((i = 0; i < 6; i++)); do
		is "apply" "$(apply)" $'ok\tok'
		write_to old
		evfd value >/dev/null
		is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
	done
}
lost rounds >"$WORK/lost"
is "lost" "$(<"$WORK/lost")" ""
drop old
is "state" "$(state)" "$state"
check_result
