#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The service: kcarectl and a vendor's tree, which a real nginx serves.
#
# - nothing is set up, nothing is served
# - the kernel's name on the server
# - check, dry run and update; what is told afterwards; once more
# - a second level replaces the first; the settings hold it back
# - a withdrawn level, an older state, another vendor's tree, a wrong clock
# - a disk that is full, or cannot be written
# - AUTO_UPDATE off
# - from the cache, without the server
# - a level that crashed the machine is held

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly TREE=$PAYLOADS/tree CONF=/etc/sysconfig/kcare/kcare.conf
[[ -e $TREE/made ]] || die "there is no tree for $RELEASE"
kernel=$(ls "$TREE/two")
version=$(sed -n 's/.* Debian \([^ ]*\) (.*/\1/p' /proc/version)

on_exit remove_kcare
insmod "$KO" || die "kcare.ko cannot be loaded"

# serve NAME: that tree, from now on.
serve() {
	ln -sfn "$TREE/$1" "$WORK/www"
}

# settings LINE...
settings() {
	mkdir -p "${CONF%/*}"
	printf '%s\n' "PATCH_SERVER=http://127.0.0.1:8080" "$@" >"$CONF"
}

# cve: what scanners see.
cve() {
	xargs </proc/kcare/cvelist
}

mkdir -p "$WORK/nginx" /usr/share/kcare
cat >"$WORK/nginx.conf" <<EOT
pid $WORK/nginx/pid;
error_log $WORK/nginx/error;
events { }
http {
	access_log $WORK/nginx/access;
	server { listen 127.0.0.1:8080; root $WORK/www; }
}
EOT
chmod 755 "$WORK"
rm -rf /var/lib/kcare

start_test "nothing is set up"
fails 5 kcarectl --update
like "no server" "$out" 'no server is set'
settings
fails 5 kcarectl --update
like "no root" "$out" 'nothing says whose updates are to be trusted'
cp "$TREE/keys/1.root.json" /usr/share/kcare/root.json
fails 9 kcarectl --update
like "no server" "$out" '^kcarectl: server: .*Connection refused'
check_result ""

start_test "the server has nothing for this kernel"
mkdir "$WORK/empty"
ln -sfn "$WORK/empty" "$WORK/www"
nginx -c "$WORK/nginx.conf" || die "nginx does not start"
stop_nginx() {
	nginx -c "$WORK/nginx.conf" -s quit
}
on_exit stop_nginx
fails 9 kcarectl --update
like "not supported" "$out" "kernel ${RELEASE//+/.} is not supported"
like "by its name" "$out" "$(sha1sum </proc/version | cut -d' ' -f1)"
check_result ""

start_test "the kernel's name on the server"
is "SHA-1 of /proc/version" "$kernel" "$(sha1sum </proc/version | cut -d' ' -f1)"
check_result ""

start_test "check, and a dry run"
serve one
succeeds kcarectl --check
is "check" "$out" "New patch level detected: 1"
succeeds kcarectl --update --dry-run
like "the fixes to come" "$out" 'CVE-2026-4241  the first'
is "nothing is live" "$(<"$VIEWS/level")" 0
is "nothing is kept" "$(cd /var/lib/kcare && echo *)" "lock tuf"
check_result

start_test "update"
succeeds kcarectl --update
is "says" "$out" $'Downloading updates\nPatch Level 1 applied\nKernel is safe'
is "CVEs" "$(cve)" CVE-2026-4241
is "uname" "$(kcarectl --uname)" "$version"
fails 1 kcarectl --check
succeeds kcarectl --update
is "once more" "$out" $'Patch Level 1 is applied already\nKernel is safe'
check_result "$(applied_log 1 1 1 0)"

start_test "a second level, as the settings allow it"
serve two
settings STICKY_PATCH=1
fails 1 kcarectl --check
settings UPDATE_DELAY=2d
fails 1 kcarectl --check
settings
succeeds kcarectl --latest-patch-info
like "the newest fixes" "$out" $'kpatch-level: 2\n.*kpatch-name: the second\n.*kpatch-cve: CVE-2026-4242'
succeeds kcarectl --update --quiet
is "nothing is said" "$out" ""
is "level" "$(<"$VIEWS/level")" 2
is "CVEs" "$(cve)" "CVE-2026-4241 CVE-2026-4242"
check_result "$(applied_log 2 2 2 0)
patch level 1 replaced"

start_test "what is not believed leaves all as it is"
serve one
fails 6 kcarectl --update
like "an older state" "$out" '^kcarectl: not trusted: .*older'
serve other
fails 6 kcarectl --update
like "another vendor" "$out" '^kcarectl: not trusted: '
serve two
now=$(date +%s)
date -s @$((now + 40 * 86400)) >/dev/null
fails 10 kcarectl --update
like "a clock that is ahead" "$out" '^kcarectl: expired: .*timestamp'
date -s "@$now" >/dev/null
is "level" "$(<"$VIEWS/level")" 2
check_result ""

start_test "a disk that is full, or cannot be written"
succeeds kcarectl --unload
mv /var/lib/kcare "$WORK/state"
mkdir /var/lib/kcare
mount -t tmpfs -o size=4k tmpfs /var/lib/kcare
fails 11 kcarectl --update
like "full" "$out" '^kcarectl: disk: .*No space left on device'
like "the next step" "$out" 'Hint: check '
umount /var/lib/kcare
# A whole state, and no room for the payload alone.
mount -t tmpfs -o size=200k tmpfs /var/lib/kcare
cp -a "$WORK/state/tuf" /var/lib/kcare/
head -c 1M /dev/zero >/var/lib/kcare/filler 2>/dev/null
fails 11 kcarectl --update
like "no room for the payload" "$out" '^kcarectl: disk: cannot write .*kpatch'
is "nothing is live" "$(<"$VIEWS/level")" 0
rm /var/lib/kcare/filler
mount -o remount,ro /var/lib/kcare
fails 11 kcarectl --update
like "read-only" "$out" '^kcarectl: disk: .*Read-only file system'
succeeds kcarectl --check
is "who only looks needs no disk" "$out" "New patch level detected: 2"
umount /var/lib/kcare
rmdir /var/lib/kcare
mv "$WORK/state" /var/lib/kcare
succeeds kcarectl --update --force
is "level" "$(<"$VIEWS/level")" 2
check_result

start_test "a level is withdrawn"
serve withdrawn
succeeds kcarectl --update
like "it stays until an administrator decides" "$out" 'Patch Level 2 is applied, and the vendor has withdrawn it'
is "level" "$(<"$VIEWS/level")" 2
check_result ""

start_test "updates are off"
succeeds kcarectl --unload
serve withdrawn
settings "AUTO_UPDATE = False"
succeeds kcarectl --auto-update
is "says" "$out" "Updates are off (AUTO_UPDATE)"
is "nothing is live" "$(<"$VIEWS/level")" 0
rm -r "${CONF%/*}"
printf 'AUTO_UPDATE = False\n' >"${CONF%/*}"
succeeds kcarectl --auto-update
is "by the file of old" "$out" "Updates are off (AUTO_UPDATE)"
rm "${CONF%/*}"
settings
check_result "$(unloaded_log 2 2)"

start_test "from the cache, without the server"
stop_nginx
fails 9 kcarectl --update
succeeds kcarectl --apply-cached
is "level" "$(<"$VIEWS/level")" 1
check_result "$(applied_log 1 1 1 0)"

start_test "a level that crashed the machine is held"
cp /var/lib/kcare/trial.json "$WORK/"
succeeds kcarectl --unload
is "what was taken back is on trial no more" "$(ls /var/lib/kcare/trial.json 2>&1)" \
	"ls: cannot access '/var/lib/kcare/trial.json': No such file or directory"
# As the next boot finds it.
cp "$WORK/trial.json" /var/lib/kcare/trial.json
sed -i 's/"boot_id": "[^"]*"/"boot_id": "another"/' /var/lib/kcare/trial.json
fails 1 kcarectl --apply-cached
like "held" "$out" 'Patch level 1 was live when this machine went down'
fails 1 kcarectl --status
like "in the status" "$out" '  held       patch level 1 was live when this machine went down'
fails 1 kcarectl --info
like "in the trade's lines" "$out" 'kpatch-held: level 1 '
settings
nginx -c "$WORK/nginx.conf"
fails 1 kcarectl --check
like "when it is looked for" "$out" 'Patch level 1 is held'
succeeds kcarectl --update
like "says so" "$out" 'Patch level 1 was live when this machine went down, and is not applied again by itself'
is "nothing is live" "$(<"$VIEWS/level")" 0
succeeds kcarectl --update --force
is "an administrator decides" "$(<"$VIEWS/level")" 1
check_result "$(unloaded_log 1 1)
$(applied_log 1 1 1 0)"
