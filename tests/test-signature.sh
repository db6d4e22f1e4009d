#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Trust: what is not signed with the right key, or not for this kernel, is refused by name and changes nothing.
#
# - no signature; the signature of another key; no key at all
# - 200 payloads with one wrong bit each, from the first byte to the last
# - the right key, but another build of the kernel; another code than is running

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

need_payloads cmdline cmdline.unsigned cmdline.other-key cmdline.other-build cmdline.other-code cmdline.build-id-cut
load_kcare
state=$(state)
# The body is what has been signed.
body=$(stat -c %s "$(payload cmdline.unsigned)")
build_id=$(kpush info | sed -n 's/^build-id //p')
signature=$(printf 'offset %#x' "$body")

start_test "unsigned"
answer=$(kpush apply "$(payload cmdline.unsigned)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'EKEYREJECTED\tsignature-missing\t-'
fails 6 kcare-push "$(payload cmdline.unsigned)"
like "kcare-push" "$out" '^kcare-push: not trusted: .*signature'
is "state" "$(state)" "$state"
check_result "verifying patch...
patch refused (signature-missing): the payload carries no signature
verifying patch...
patch refused (signature-missing): the payload carries no signature"

start_test "signed with another key"
answer=$(kpush apply "$(payload cmdline.other-key)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'EKEYREJECTED\tkey-rejected\t'"$signature"
fails 6 kcare-push "$(payload cmdline.other-key)"
like "kcare-push" "$out" '^kcare-push: not trusted: '
is "state" "$(state)" "$state"
check_result "verifying patch...
patch refused (key-rejected): it is not signed with the key that this module trusts
verifying patch...
patch refused (key-rejected): it is not signed with the key that this module trusts"

start_test "200 payloads with one wrong bit"
kpush flips "$(payload cmdline)" 200 >"$WORK/flips"
is "pushed" "$(wc -l <"$WORK/flips")" 200
is "in the body" "$(awk -F'[\t^]' -v body="$body" '$1 < body' "$WORK/flips" | wc -l | xargs test 50 -lt && echo many)" many
is "accepted" "$(awk -F'\t' '$2 != "EKEYREJECTED" && $2 != "EBADMSG"' "$WORK/flips")" ""
# Whatever is wrong in the body, the signature finds; nothing has looked at the body before.
is "in the body, found otherwise" "$(awk -F'[\t^]' -v body="$body" '$1 < body && $4 != "payload-corrupted"' "$WORK/flips")" ""
is "reasons behind it" "$(awk -F'[\t^]' -v body="$body" '$1 >= body { print $4 }' "$WORK/flips" | sort -u |
	grep -vxE 'payload-corrupted|key-rejected|signature-malformed|signature-missing')" ""
is "verified" "$(log | grep -c 'verified successfully')" 0
is "failures" "$(kpush info | sed -n 's/^failures //p')" 204
is "state" "$(state)" "$state"
printf '# %s\n' "$(cut -f2,3 "$WORK/flips" | sort | uniq -c | xargs)"
check_result

start_test "every bit around the signature"
# The trailer is the last 40 bytes, and the raw RSA-4096 signature the 512 in front of it.
size=$(stat -c %s "$(payload cmdline)")
dmesg -n 5
kpush flips "$(payload cmdline)" $((8 * (size - 552 - body))) "$body" $((size - 552)) >"$WORK/flips"
kpush flips "$(payload cmdline)" $((8 * 40)) $((size - 40)) >>"$WORK/flips"
dmesg -n 7
is "pushed" "$(wc -l <"$WORK/flips")" $((8 * (size - 512 - body)))
is "accepted" "$(awk -F'\t' '$2 != "EKEYREJECTED" && $2 != "EBADMSG"' "$WORK/flips" | head -20)" ""
is "state" "$(state)" "$state"
printf '# %s\n' "$(cut -f2,3 "$WORK/flips" | sort | uniq -c | xargs)"
check_result

start_test "for another build of the kernel"
# The first byte of the build-id is another one.
printf -v other '%02x%s' $((0x${build_id:0:2} ^ 0xff)) "${build_id:2}"
answer=$(kpush apply "$(payload cmdline.other-build)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'EINVAL\twrong-build-id\tobjects[0]'
message="it is for kernel $RELEASE (build-id $other), and $RELEASE (build-id $build_id) is running"
is "message" "$(cut -f5 <<<"$answer")" "$message"
fails 4 kcare-push "$(payload cmdline.other-build)"
like "kcare-push names the payload's" "$out" "$other"
like "kcare-push names the kernel's" "$out" "$build_id"
is "state" "$(state)" "$state"
check_result "verifying patch...
verified successfully
patch refused (wrong-build-id): $message
verifying patch...
verified successfully
patch refused (wrong-build-id): $message"

start_test "for a build-id that only begins like the kernel's"
answer=$(kpush apply "$(payload cmdline.build-id-cut)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'EINVAL\twrong-build-id\tobjects[0]'
is "state" "$(state)" "$state"
check_result

start_test "other code than is running"
answer=$(kpush apply "$(payload cmdline.other-code)")
is "answer" "$(cut -f2-4 <<<"$answer")" $'EINVAL\tpreimage-mismatch\tfuncs[0]'
like "message" "$(cut -f5 <<<"$answer")" '^the code of cmdline_proc_show at \+0x[0-9a-f]+ is 0x[0-9a-f]{2} and not 0x[0-9a-f]{2}'
fails 7 kcare-push "$(payload cmdline.other-code)"
like "kcare-push" "$out" 'cmdline_proc_show'
is "state" "$(state)" "$state"
check_result

start_test "the untouched payload goes live"
is "answer" "$(kpush apply "$(payload cmdline)" | cut -f2-4)" $'ok\tok\t-'
like "/proc/cmdline" "$(</proc/cmdline)" ' kcare=1$'
is "unload" "$(kpush unload | cut -f2,3)" $'ok\tok'
is "state" "$(state)" "$state"
check_result "$(applied_log 1 1 1 0)
$(unloaded_log 1 1)"
