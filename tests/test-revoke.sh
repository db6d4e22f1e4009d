#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Revocation: a module that trusts two certificates is told that one of them is dead.
#
# - a record that is not signed, changed, malformed, or no record; a payload as a record, and a record as a payload
# - what is live stays; nothing that the dead key has signed is applied or gone back to; what the other one has signed is
# - a record once more, of a certificate that the module does not have, by a signer that is dead
# - the log, the audit log, /dev/kcare, sysfs, kcarectl
# - the last certificate; the module loaded anew; what the machine keeps

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads cmdline levels-2
FOLDER=$KCARE_TARGET/tests/$RELEASE/revoke
TWO=$FOLDER/kmod/rust-kmod/kcare.ko
[[ -s $TWO ]] || die "there is no kcare.ko with two certificates"
NONE="none is left, so that no payload is taken until the module is loaded anew"

insmod "$TWO" || die "kcare.ko cannot be loaded"
on_exit remove_kcare
mapfile -t certificates <"$VIEWS/certificates"
old=${certificates[0]} new=${certificates[1]}

record() {
	printf '%s/%s.revoked' "$FOLDER" "$1"
}

revoke() {
	kpush revoke "$(record "$1")"
}

# by_new NAME: the payload that the second certificate's key has signed.
by_new() {
	printf '%s/%s.kpatch' "$FOLDER" "$1"
}

anew() {
	rmmod kcare && insmod "$TWO" || die "kcare.ko cannot be loaded again"
}

# is_refused_as_revoked WHAT WHO COMMAND...
is_refused_as_revoked() {
	answers "$1" EKEYREVOKED key-revoked "${@:3}"
	is "$1, message" "$(cut -f5 <<<"$answer")" "it is signed by $2, which has been revoked"
}

start_test "two certificates are trusted, and none is revoked"
is "certificates" "${#certificates[@]}" 2
isnt "the second" "$new" "$old"
is "revoked" "$(<"$VIEWS/revoked")" ""
answers "apply, the first" ok ok kpush apply "$(payload cmdline)"
answers "unload" ok ok kpush unload
answers "apply, the second" ok ok kpush apply "$(by_new cmdline)"
answers "unload" ok ok kpush unload
check_result

start_test "what is no record changes nothing"
state=$(state)
size=$(stat -c %s "$(record old)")
for at in 0 12 20 47 $((size / 2)); do
	cp "$(record old)" "$WORK/bad"
	printf '\xee' | dd of="$WORK/bad" bs=1 seek="$at" conv=notrunc status=none
	like "byte $at" "$(kpush revoke "$WORK/bad" | cut -f3)" '^(payload-corrupted|signature-malformed|key-rejected)$'
done
head -c 48 "$(record old)" >"$WORK/unsigned"
answers "not signed" EKEYREJECTED signature-missing kpush revoke "$WORK/unsigned"
answers "of no certificate" EINVAL revocation-count revoke empty
is "place" "$(cut -f4 <<<"$answer")" "offset 0xc"
answers "a payload" ENOEXEC revocation-magic kpush revoke "$(payload cmdline)"
answers "flags" EOPNOTSUPP unknown-flags kpush revoke -f 1 "$(record old)"
answers "a record as a payload" ENOEXEC too-small kpush apply "$(record self)"
fails 6 kcare-push "$WORK/bad"
like "kcare-push" "$out" "^kcare-push: not trusted: cannot take $WORK/bad: "
fails 4 kcare-push --downgrade "$(record old)"
is "revoked" "$(<"$VIEWS/revoked")" ""
is "state" "$(state)" "$state"
check_result

start_test "a certificate that this module does not have"
answers "revoke" ok ok revoke unknown
is "answer" "$(cut -f5 <<<"$answer")" "certificates: 0 revoked, 0 revoked before, 1 not of this module"
is "revoked" "$(<"$VIEWS/revoked")" ""
check_result "verifying revocation record...
verified successfully
certificate revoked that is not of this module: sha256 $(printf '%064x' 1)"

start_test "what is live stays, and its key signs nothing more"
sysctl_set kernel.printk_ratelimit 0
answers "apply 1" ok ok kpush apply "$(payload cmdline)"
succeeds kcare-push "$(record old)"
is "kcare-push" "$out" "Revocation record taken: certificates: 1 revoked, 0 revoked before, 0 not of this module"
is "log" "$(kcare_log | grep 'certificate revoked')" "certificate revoked: $old"
like "audit log" "$(log)" "op=kcare-revoke sha256=${old##* } res=1"
like "/proc/cmdline" "$(</proc/cmdline)" ' kcare=1$'
is "sysfs" "$(<"$VIEWS/revoked")" "$old"
is "/dev/kcare" "$(sed -n 's/^revoked: //p' /dev/kcare)" "$old"
is "event" "$(grep -c '^event: [0-9]* revoke 1 1 ok$' /dev/kcare)" 1
succeeds kcarectl --info
like "kcarectl --info" "$out" "kpatch-revoked: $old"
like "kcarectl --status" "$(kcarectl --status)" "revoked    $old"
state=$(state)
is_refused_as_revoked "apply 2" "$old" kpush apply "$(payload levels-2)"
is_refused_as_revoked "apply 2, a dry run" "$old" kpush apply -f 2 "$(payload levels-2)"
fails 6 kcare-push "$(payload levels-2)"
like "hint" "$out" 'Hint: ask its vendor for one that is signed with its new key'
is "state" "$(state)" "$state"
check_result

start_test "a level goes live over it, and it does not come back"
answers "apply 2" ok ok kpush apply "$(by_new levels-2)"
is_refused_as_revoked "rollback" "$old" kpush rollback
is "level" "$(kpush info | grep -E '^(level|previous) ' | xargs)" "level 2 previous 1"
answers "unload" ok ok kpush unload
is_refused_as_revoked "apply 1" "$old" kpush apply "$(payload cmdline)"
answers "apply 1 by the other" ok ok kpush apply "$(by_new cmdline)"
answers "apply 2 by the other" ok ok kpush apply "$(by_new levels-2)"
answers "rollback" ok ok kpush rollback
answers "unload" ok ok kpush unload
check_result

start_test "a record once more, and records of a dead key"
answers "again" ok ok revoke old
is "answer" "$(cut -f5 <<<"$answer")" "certificates: 0 revoked, 1 revoked before, 0 not of this module"
answers "its own, which says nothing new" ok ok revoke self
is_refused_as_revoked "the other's" "$old" revoke new
is "revoked" "$(<"$VIEWS/revoked")" "$old"
answers "the other still signs" ok ok kpush apply "$(by_new cmdline)"
answers "unload" ok ok kpush unload
check_result

start_test "the last certificate"
answers "revoke" ok ok revoke last
is "answer" "$(cut -f5 <<<"$answer")" "certificates: 1 revoked, 1 revoked before, 0 not of this module; $NONE"
is_refused_as_revoked "apply" "$new" kpush apply "$(by_new cmdline)"
answers "revoke again" ok ok revoke last
is "revoked" "$(<"$VIEWS/revoked")" "$old"$'\n'"$new"
run kcarectl --doctor
like "kcarectl --doctor" "$out" 'all certificates of the module are revoked'
is "log" "$(kcare_log | grep -c '^no certificate is left: ')" 2
check_result

start_test "the module loaded anew knows nothing of it, until the machine's records are given to it"
anew
is "revoked" "$(<"$VIEWS/revoked")" ""
answers "apply" ok ok kpush apply "$(payload cmdline)"
answers "unload" ok ok kpush unload
answers "a certificate revokes itself" ok ok revoke self
answers "and once more" ok ok revoke self
is_refused_as_revoked "apply" "$old" kpush apply "$(payload cmdline)"
anew
mkdir -p /etc/sysconfig/kcare/revoked
on_exit rm -rf /etc/sysconfig/kcare/revoked
cp "$(record old)" /etc/sysconfig/kcare/revoked/1.revoked
cp "$WORK/bad" /etc/sysconfig/kcare/revoked/2.revoked
run kcarectl --apply-cached
like "kcarectl" "$out" 'cannot take /etc/sysconfig/kcare/revoked/2.revoked: '
unlike "kcarectl" "$out" '1.revoked'
is "revoked" "$(<"$VIEWS/revoked")" "$old"
check_result
