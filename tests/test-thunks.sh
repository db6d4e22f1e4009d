#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Returns and indirect calls of patch code are what the kernel has made of its own ones, for each mitigation.

#@ append: retbleed=unret,force
#@ append: indirect_target_selection=force
#@ append: mitigations=off

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads residency-eventfd
vmlinux=/usr/lib/debug/boot/vmlinux-$RELEASE
[[ -s $vmlinux ]] || skip "there is no vmlinux of $RELEASE"
load_kcare
for name in spectre_v2 retbleed indirect_target_selection spec_rstack_overflow; do
	printf '# %s: %s\n' "$name" "$(cat /sys/devices/system/cpu/vulnerabilities/$name)"
done

start_test "returns and indirect calls are the kernel's"
is "apply" "$(kpush apply "$(payload residency-eventfd)" | cut -f2,3)" $'ok\tok'
succeeds kcode sites "$(payload residency-eventfd)" kcare_1 "$vmlinux"
printf '%s\n' "$out" | sed 's/^/# /'
is "kinds" "$(cut -d' ' -f1 <<<"$out" | tr -d : | sort -u | xargs)" "indirect return"
is "an indirect call" "$(evfd poke 4208)" 4208
is "a return" "$(evfd poke 8)" 8
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
check_result "$(applied_log 1 1 1 0)
$(unloaded_log 1 1)"
