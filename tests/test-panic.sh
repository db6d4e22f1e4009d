#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A kernel that panics says which level was live; kdump, pstore or a console keeps that for whoever comes after.
# tests/run looks at the console, as nothing else is left of the machine.

#@ warnings: wanted
#@ panic: kcare: panic while patch level 1 is live

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads cmdline
load_kcare
start_test "panic"
is "apply" "$(apply cmdline)" $'ok\tok'
check_result "$(applied_log 1 1 1 0)"
sync
echo c >/proc/sysrq-trigger

start_test "the machine ends"
fail "panic" "still here" "none of it"
check_result
