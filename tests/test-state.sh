#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# States of the system that a level changes and a later one takes over. Here it is a sysctl.
#
# - a level changes the state and restores it
# - a level with a higher version of the state takes over, and so does one with the same version
# - a level with a lower version, or without the state, is refused; so is a rollback to one

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly SIGNALS=kernel.print-fatal-signals

need_payloads state-1 state-2 state-3 state-3-old state-3-without
push_sysctl $SIGNALS 1
load_kcare
state=$(state)
# shellcheck disable=SC2034 # for kcare_log
patches='state-1|state-2'

# live NAME: of /proc/version and the sysctl.
live() {
	like "/proc/version" "$(</proc/version)" "^kcare $1: Linux version "
	is "the sysctl" "$(sysctl_value $SIGNALS)" 4244
}

unloaded() {
	is "unload" "$(back unload)" $'ok\tok'
	is "the sysctl" "$(sysctl_value $SIGNALS)" 1
	is "state" "$(state)" "$state"
}

called() {
	is "called" "$(kcare_log | grep '^state-')" "$1"
}

start_test "a level changes a state"
is "apply" "$(apply state-1)" $'ok\tok'
live state-1
unloaded
called "state-1: pre_patch: room for the old value
state-1: post_patch: changed
state-1: pre_unpatch: restored
state-1: post_unpatch: freed"
check_result

start_test "a higher version takes over"
is "apply 1" "$(apply state-1)" $'ok\tok'
is "apply 2" "$(apply state-2)" $'ok\tok'
live state-2
unloaded
called "state-1: pre_patch: room for the old value
state-1: post_patch: changed
state-2: pre_patch: the old value is kept already
state-2: post_patch: takes over from version 1
state-2: pre_unpatch: restored
state-2: post_unpatch: freed"
check_result

start_test "the same version takes over, and gives back"
is "apply 2" "$(apply state-2)" $'ok\tok'
is "apply 3" "$(apply state-3)" $'ok\tok'
live state-2
is "rollback" "$(back rollback)" $'ok\tok'
live state-2
unloaded
called "state-2: pre_patch: room for the old value
state-2: post_patch: changed
state-2: pre_patch: the old value is kept already
state-2: post_patch: takes over from version 2
state-2: pre_patch: the old value is kept already
state-2: post_patch: takes over from version 2
state-2: pre_unpatch: restored
state-2: post_unpatch: freed"
check_result

start_test "a lower version, and a level without the state, are refused"
is "apply 2" "$(apply state-2)" $'ok\tok'
for payload in state-3-old state-3-without; do
	answer=$(kpush apply "$(payload $payload)")
	is "apply $payload" "$(cut -f2,3 <<<"$answer")" $'EINVAL\tstate-incompatible'
	is "what it says" "$(answer text "$answer")" \
		"level 2 has changed state 16963 (version 2), which level 3 cannot take over"
done
live state-2
unloaded
called "state-2: pre_patch: room for the old value
state-2: post_patch: changed
state-2: pre_unpatch: restored
state-2: post_unpatch: freed"
check_result

start_test "a rollback to a lower version is refused"
is "apply 1" "$(apply state-1)" $'ok\tok'
is "apply 2" "$(apply state-2)" $'ok\tok'
is "rollback" "$(back rollback)" $'EINVAL\tstate-incompatible'
live state-2
unloaded
check_result
