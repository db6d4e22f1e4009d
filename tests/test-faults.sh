#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Every single allocation of every request fails once (programs/faults.c); asking for information makes none.
#
# - a request that fails says that memory is short, and leaves everything as it was
# - one that can do without the memory does what it should
# - afterwards everything works as before, and no memory is lost
#
# Only a kernel with the fault injection of the kernel's own can do this: scripts/kernel has the flavour debug-amd64.

# The kernel says so, whoever loads a module whose jump labels get no memory (jump_label_module_notify()).
#@ expected: WARNING: kernel/jump_label\.c:
#@ append: slab_debug=FZPU,kmalloc-* kmemleak=on
#@ timeout: 1200
#@ memory: 3G

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly DEBUG=/sys/kernel/debug
readonly DUMMY=/usr/lib/modules/$RELEASE/kernel/drivers/net/dummy.ko

[[ -e /proc/self/fail-nth ]] || skip "$RELEASE has no /proc/PID/fail-nth (CONFIG_FAULT_INJECTION)"
need_payloads cmdline levels-2 levels-3 module
load_kcare
state=$(state)
# What the kernel says about each allocation that fails is of no interest on the console; warnings are.
dmesg -n 5

# Allocations of all kinds, but only kcare's, and those of the kernel for it.
aim() {
	local text kind
	text=$(sed -n 's/^\([0-9a-f]*\) [tT] .*\[kcare\]$/\1/p' /proc/kallsyms | sort)
	for kind in failslab fail_page_alloc; do
		echo 0 >$DEBUG/$kind/verbose
		echo N >$DEBUG/$kind/ignore-gfp-wait
		echo "0x$(head -n 1 <<<"$text")" >$DEBUG/$kind/require-start
		# Some way into the last function.
		printf '0x%x' $((16#$(tail -n 1 <<<"$text") + 4096)) >$DEBUG/$kind/require-end
	done
	echo N >$DEBUG/fail_page_alloc/ignore-gfp-highmem
	echo 0 >$DEBUG/fail_page_alloc/min-order
}
aim

# What may be answered, as lines of `faults`: success; ENOMEM, the answer of the system call itself where there is no room
# for a reason yet; and EKEYREJECTED or EINVAL of the kernel's own, which takes some allocations that fail in its
# arithmetic for a wrong signature.
readonly ANSWERS='((ok|ENOMEM)	(-|out-of-memory)|EBADMSG	(payload-corrupted|signature-malformed))'

# faulty NAME [PAYLOAD]... -- REQUEST [ARGUMENT]...
faulty() {
	start_test "$1"
	shift
	succeeds faults "$@"
	printf '%s\n' "$out" | sed 's/^/# /'
	like "allocations" "$out" '[1-9][0-9]* allocations$'
	is "answers of another kind" "$(grep -vE "^[0-9]+	$ANSWERS$| allocations$" <<<"$out")" ""
	is "state" "$(state)" "$state"
	check_result
}

echo clear >$DEBUG/kmemleak
memory >"$WORK/memory"
faulty "apply" -- apply "$(payload cmdline)"
faulty "unload" "$(payload cmdline)" -- unload
faulty "replace" "$(payload cmdline)" -- apply "$(payload levels-2)"
faulty "rollback" "$(payload cmdline)" "$(payload levels-2)" -- rollback
faulty "replace with a level for a rollback" "$(payload cmdline)" "$(payload levels-2)" -- apply "$(payload levels-3)"
faulty "dry run" "$(payload cmdline)" -- try "$(payload levels-2)"
faulty "a module that comes" "$(payload module)" -- load "$DUMMY" dummy
faulty "history" "$(payload cmdline)" -- history
faulty "the device's text" "$(payload cmdline)" -- read

start_test "information"
succeeds faults "$(payload cmdline)" -- info
is "allocations" "$out" "0 allocations"
check_result

# The other way to redirect.
reload_kcare redirect=2
aim
faulty "apply, IPMODIFY" -- apply "$(payload cmdline)"
faulty "unload, IPMODIFY" "$(payload cmdline)" -- unload
faulty "rollback, IPMODIFY" "$(payload cmdline)" "$(payload levels-2)" -- rollback

faulty "from direct to IPMODIFY" "$(payload levels-2)" -- redirect 1 2
faulty "from IPMODIFY to direct" "$(payload levels-2)" -- redirect 2 1

start_test "nothing is lost"
is "lost" "$(remains)" ""
is "unreferenced" "$(unreferenced)" ""
is "complaints" "$(complaints)" ""
check_result
