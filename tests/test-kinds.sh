#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Each kind of change whose effect user space sees (tests/kinds) goes live, and comes back out.
#
# - before: what the patch's command prints
# - live: what it prints now; the log
# - unloaded: as before, no function is redirected, and nothing of the patch is left in the log; but for the memory of one
#   whose code somebody may still have an address of

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

kinds=${BASH_SOURCE[0]%/*}/kinds

# setting NAME KEY: the values of `#@ KEY: VALUE` in a patch, one a line.
setting() {
	sed -n "s/^#@ $2: *//p" "$kinds/$1.patch"
}

load_kcare
for patch in "$kinds"/*.patch; do
	kind=${patch##*/}
	kind=${kind%.patch}
	command=$(setting "$kind" run)
	[[ $command ]] || continue
	need_payloads "kinds/$kind"
	count=$(setting "$kind" redirects | wc -w)

	start_test "$kind: $(head -n 1 "$patch")"
	bash -c "$(setting "$kind" prepare)"
	is "before" "$(bash -c "$command")" "$(setting "$kind" before)"
	like "apply" "$(kpush apply "$(payload "kinds/$kind")")" $'\tok\tok\t'
	is "live" "$(bash -c "$command")" "$(setting "$kind" shows)"
	like "unload" "$(kpush unload)" $'\tok\tok\t'
	is "unloaded" "$(bash -c "$command")" "$(setting "$kind" before)"
	is "redirected" "$(redirected)" ""
	kept=''
	if [[ $(setting "$kind" says) == *' taken'* ]]; then
		kept=$'\nthe memory of patch level 1 is kept until reboot, because addresses of its code have been handed on'
		is "in memory" "$(in_module_list kcare_1 && echo yes)" yes
	fi
	check_result "$(applied_log 1 "$count" "$count" 0)
$(unloaded_log 1 "$count")$kept"
done
