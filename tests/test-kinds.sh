#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Each kind of change whose effect user space sees (tests/kinds) goes live, and comes back out.
#
# - before: what the patch's command prints
# - live: what it prints now; the log
# - unloaded: as before, no function is redirected, and nothing of the patch is left in the log

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
	check_result "$(applied_log 1 "$count" "$count" 0)
$(unloaded_log 1 "$count")"
done
