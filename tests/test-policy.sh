#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What may not go live, or not go away, though it is signed and well-formed.
#
# policy=rules:
# - a payload whose time is over is refused, by the machine's clock; one that is live stays
# - a level that lets no lower one follow: not by --downgrade, nor by a rollback, nor after an unload
# - who may read which fixes are live
# - a security module of the kernel refuses it (a BPF program in the place of one); each request is in the audit log
# - kernel.modules_disabled: nothing goes live, what is live can be taken back
# policy=latch:
# - with latch=1 no level is taken back or replaced by a lower one, and the module stays
# - with ignore_modules_disabled=1 levels go live all the same

#@ append: audit=1 policy=rules
#@ append: audit=1 policy=latch

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly DOWNGRADE=1

need_payloads cmdline levels-2 levels-3 policy-over policy-soon policy-floor

# audited OPERATION: the audit records of that kind since start_test, their levels and results.
audited() {
	log | sed -nE "s/^audit: type=1330 .* op=kcare-$1 name=kcare_([0-9]+) old=([0-9]+) res=([01])$/\2 \1 \3/p" | xargs
}

latched() {
	load_kcare latch=1 ignore_modules_disabled=1
	answers "apply 2" ok ok kpush apply "$(payload levels-2)"
	answers "apply 3" ok ok kpush apply "$(payload levels-3)"

	start_test "a level that is latched stays, and so does the module"
	answers "unload" EPERM latched kpush unload
	answers "rollback" EPERM latched kpush rollback
	answers "apply 1" ESTALE lower-level kpush apply "$(payload cmdline)"
	answers "apply 1, told to" ESTALE lower-level kpush apply -f $DOWNGRADE "$(payload cmdline)"
	is "level" "$(kpush info | grep ^level)" "level 3"
	fails 4 kcarectl --unload
	like "kcarectl" "$out" 'latch=1'
	fails 1 rmmod kcare
	is "level" "$(kpush info | grep -E '^(level|previous) ' | xargs)" "level 3 previous 2"
	check_result

	start_test "with ignore_modules_disabled payloads are looked at"
	sysctl -q kernel.modules_disabled=1
	answers "apply" EEXIST already-live kpush apply "$(payload levels-3)"
	check_result
	# It stays.
	exit_actions=()
}

if grep -q policy=latch /proc/cmdline; then
	latched
	exit
fi

load_kcare
state=$(state)

start_test "a payload whose time is over"
answer=$(kpush apply "$(payload policy-over)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'ESTALE\texpired\t-'
like "message" "$(cut -f5 <<<"$answer")" '^it was to be applied until 1767311999, in seconds since 1970, and now it is [0-9]+$'
is "state" "$(state)" "$state"
answers "one in time" ok ok kpush apply "$(payload policy-soon)"
now=$(date +%s)
date -s @4923000000 >/dev/null
is "it is live later, too" "$(kpush info | grep ^level)" "level 1"
answers "unload" ok ok kpush unload
answers "not again" ESTALE expired kpush apply "$(payload policy-soon)"
date -s "@$now" >/dev/null
answers "but now" ok ok kpush apply "$(payload policy-soon)"
answers "unload" ok ok kpush unload
is "state" "$(state)" "$state"
check_result

start_test "a level under which nothing may follow"
reload_kcare
answers "apply 1" ok ok kpush apply "$(payload cmdline)"
answers "apply 2" ok ok kpush apply "$(payload policy-floor)"
answers "rollback" ESTALE below-floor kpush rollback
answers "apply 1, told to" ESTALE below-floor kpush apply -f $DOWNGRADE "$(payload cmdline)"
is "level" "$(kpush info | grep -E '^(level|previous) ' | xargs)" "level 2 previous 1"
answers "unload" ok ok kpush unload
answers "apply 1 over nothing" ESTALE below-floor kpush apply "$(payload cmdline)"
is "message" "$(cut -f5 <<<"$answer")" \
	"patch level 1 is below 2, under which no level may follow one that has been live"
answers "apply 2 again" ok ok kpush apply "$(payload policy-floor)"
answers "unload" ok ok kpush unload
reload_kcare
answers "apply 1, the module loaded anew" ok ok kpush apply "$(payload cmdline)"
answers "unload" ok ok kpush unload
check_result

start_test "who may read which fixes are live"
nobody() {
	setpriv --reuid nobody --clear-groups cat "$@" 2>&1
}
answers "apply" ok ok kpush apply "$(payload cmdline)"
is "everybody" "$(nobody "$VIEWS/cves" /proc/kcare/cvelist | uniq)" CVE-2026-4243
answers "unload" ok ok kpush unload
reload_kcare hide_fixes=1
answers "apply" ok ok kpush apply "$(payload cmdline)"
for file in "$VIEWS/cves" /proc/kcare/{cvelist,status,effective_version}; do
	like "nobody" "$(nobody "$file")" 'Permission denied'
done
is "nobody, the level" "$(nobody "$VIEWS/level")" 1
is "root" "$(cat "$VIEWS/cves" /proc/kcare/cvelist | uniq)" CVE-2026-4243
answers "unload" ok ok kpush unload
reload_kcare
check_result

start_test "each request is in the audit log"
# Without a daemon for it, the records are in the kernel's log.
sysctl_set kernel.printk_ratelimit 0
answers "apply" ok ok kpush apply "$(payload cmdline)"
answers "apply" ok ok kpush apply "$(payload levels-2)"
answers "apply" EEXIST already-live kpush apply "$(payload levels-2)"
answers "rollback" ok ok kpush rollback
answers "unload" ok ok kpush unload
answers "unload" ENOENT nothing-applied kpush unload
is "apply" "$(audited apply)" "0 1 1 1 2 1 2 2 0"
is "rollback" "$(audited rollback)" "2 1 1"
is "unload" "$(audited unload)" "1 0 1 0 0 0"
like "the subject" "$(log | grep -A 3 'op=kcare-apply' | grep -m 1 'type=1300')" ' pid=[0-9]+ .* uid=0 .* comm="kpush"'
check_result

start_test "a security module of the kernel is asked"
mkfifo "$WORK/bpf-end"
for hook in security_kernel_load_data security_kernel_post_load_data; do
	bpf.py deny "$hook" <"$WORK/bpf-end" >"$WORK/bpf" 2>&1 &
	pid=$!
	exec 9>"$WORK/bpf-end"
	retry grep -q attached "$WORK/bpf"
	answers "apply with $hook denied" EPERM security-refused kpush apply "$(payload cmdline)"
	fails 4 kcare-push "$(payload cmdline)"
	like "kcare-push" "$out" 'to let this program load code'
	exec 9>&-
	wait "$pid"
done
answers "apply" ok ok kpush apply "$(payload cmdline)"
check_result

# The last one: it cannot be undone.
start_test "the kernel takes no modules any more"
sysctl -q kernel.modules_disabled=1
answers "apply" EPERM modules-disabled kpush apply "$(payload levels-2)"
fails 4 kcare-push "$(payload levels-2)"
like "kcare-push" "$out" 'ignore_modules_disabled=1'
answers "unload" ok ok kpush unload
answers "apply" EPERM modules-disabled kpush apply "$(payload cmdline)"
exit_actions=()
check_result
