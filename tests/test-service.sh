#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#@ systemd: yes
#@ reboots: 4
#@ timeout: 1200
#
# The service, as `make install` sets it up, with the real systemd, an nginx, and a machine that goes down.
#
# Boot 0: installed; each service is as closed as it can be; a download is applied, by two services
#         what the settings stop; what a hostile _kcare puts into the cache; killed at any moment
# Boot 1, after an orderly shutdown: patched before the network
# Boot 2, after a power cut: the level is held; a higher one is tried
# Boot 3, after a power cut when that was no longer on trial: it is applied
# Boot 4: kcare.mode=; taken away again

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "${BASH_SOURCE[0]%/*}/functions.sh"

readonly TREE=$PAYLOADS/tree CONF=/etc/sysconfig/kcare/kcare.conf BOOT=${KCARE_VM_BOOT:-0}
readonly CACHE=/var/cache/kcare STATE=/var/lib/kcare
[[ -e $TREE/made ]] || die "there is no tree for $RELEASE"
kernel=$(ls "$TREE/two")

# settings LINE...
settings() {
	printf '%s\n' "PATCH_SERVER=http://127.0.0.1:8080" "$@" >"$CONF"
}

# serve NAME: that tree, from now on.
serve() {
	ln -sfn "$TREE/$1" /srv/www
	systemctl is-active --quiet nginx-kcare || systemd-run --quiet --unit=nginx-kcare nginx -c /srv/nginx.conf -g 'daemon off;'
	retry curl -sf -o /dev/null "http://127.0.0.1:8080/$kernel/timestamp.json"
}

level() {
	cat "$VIEWS/level" 2>/dev/null || echo "no module"
}

# booted LEVEL: the boot's service has applied it; if not, the journal says why.
booted() {
	is "level" "$(level)" "$1"
	[[ $(level) == "$1" ]] || journalctl -b -u kcare.service -u modprobe@kcare.service -u kcare-apply.service \
		-u kcare-settle.service --no-pager | sed 's/^/# /'
}

# ended UNIT: it runs no more, and is not about to.
ended() {
	[[ $(systemctl show -P ActiveState "$1") =~ ^(inactive|failed)$ ]] && ! systemctl list-jobs --no-legend | grep -q "$1"
}

# auto: what the timer does; it waits for both halves.
auto() {
	systemctl start kcare-fetch.service
	local status=$?
	retry ended kcare-apply.service
	return "$status"
}

# files: what is in the folders that the installation writes to.
files() {
	find /etc /usr /var/lib /var/cache ! -type d ! -path '/var/lib/systemd/*' ! -path '/var/lib/nginx/*' \
		! -path '/etc/passwd*' ! -path '/etc/group*' ! -path '/etc/*shadow*' ! -path '*/modules.*' ! -path /etc/.pwd.lock |
		sort
}

# go_down COMMAND...: the rest is for the next boot.
go_down() {
	trap - EXIT
	rm -rf "$WORK"
	sleep 1
	"$@"
	sleep 1000
}

power_cut() {
	echo b >/proc/sysrq-trigger
}

boot_0() {
	start_test "installed"
	files >/root/before
	cat >/srv/nginx.conf <<-'EOT'
		pid /run/nginx-kcare.pid;
		error_log /run/nginx-kcare.error;
		events { }
		http {
			access_log /run/nginx-kcare.access;
			server { listen 127.0.0.1:8080; root /srv/www; }
		}
	EOT
	succeeds env KCARE_TARGET="$KCARE_TARGET" KCARE_ROOT="$TREE/keys/1.root.json" /kcare/scripts/install "$RELEASE"
	succeeds systemctl is-enabled kcare.service kcare-fetch.timer kcare-settle.timer kcare-shutdown.service
	succeeds test -x /usr/bin/kcarectl -a -x /usr/bin/kcare-uname -a -s "$CONF"
	is "the state is root's" "$(stat -c '%U %a' "$STATE")" "root 755"
	is "the cache is not" "$(stat -c '%U %a' "$CACHE")" "_kcare 755"
	succeeds systemd-analyze verify --man=no /usr/lib/systemd/system/kcare*.service /usr/lib/systemd/system/kcare*.timer
	is "systemd has nothing to say" "$out" ""
	check_result

	start_test "closed"
	for unit in kcare-fetch kcare-apply kcare; do
		succeeds systemd-analyze security --no-pager --threshold=20 "$unit.service"
		echo "# $(tail -n 1 <<<"$out")"
	done
	check_result

	start_test "two services apply what one of them has downloaded"
	settings
	serve one
	succeeds auto
	is "level" "$(level)" 1
	is "by a user without rights" "$(systemctl show -P User kcare-fetch)" _kcare
	is "it has its own files" "$(find "$CACHE" ! -user _kcare)" ""
	is "root has its own" "$(find "$STATE" ! -user root)" ""
	is "ended well" "$(systemctl show -P Result kcare-fetch kcare-apply | xargs)" "success success"
	succeeds auto
	like "most of the time one answer says that nothing changed" "$(tail -n 1 /run/nginx-kcare.access)" 'timestamp.json HTTP/1.1" 304 '
	fails 4 kcarectl --fetch
	like "root does not write to the cache" "$out" "is another user's, and root does not write there"
	check_result

	start_test "what the settings stop"
	succeeds kcarectl --unload
	settings AUTO_UPDATE=False
	succeeds auto
	is "AUTO_UPDATE" "$(level)" 0
	succeeds kcarectl --apply-cached
	is "what was applied before comes back at boot" "$(level)" 1
	succeeds kcarectl --unload
	rm -rf "$STATE/levels"
	fails 1 kcarectl --apply-cached
	is "and nothing else" "$(level)" 0
	settings UPDATE_POLICY=LOCAL
	: >/run/nginx-kcare.access
	succeeds auto
	is "UPDATE_POLICY" "$(level) $(wc -l </run/nginx-kcare.access)" "0 0"
	settings UPDATE_POLICY=LOCAL_FIRST
	succeeds auto
	is "so soon after the boot" "$(level) $(wc -l </run/nginx-kcare.access)" "0 0"
	settings
	check_result

	start_test "who cannot keep an update from root"
	is "the lock is root's alone" "$(stat -c '%U %a' "$STATE/lock")" "root 600"
	fails 66 setpriv --reuid=nobody --clear-groups flock --nonblock "$STATE/lock" true
	find "$CACHE/tuf" -name poll.json -exec sh -c 'rm "$1" && mkfifo "$1"' - {} \;
	run timeout 20 kcarectl --status
	like "a pipe in the cache" "$status" '^[012]$'
	find "$CACHE/tuf" -name poll.json -delete
	check_result

	start_test "what a hostile _kcare puts into the cache"
	local tree=$CACHE/tree/$kernel file
	cp -a "$CACHE/tree" /root/tree
	for file in "$tree/timestamp.json" "$tree"/t/*.kpatch; do
		for evil in link pipe folder other long; do
			rm -rf "$file"
			case $evil in
			link) ln -s /etc/shadow "$file" ;;
			pipe) mkfifo "$file" ;;
			folder) mkdir "$file" ;;
			other) cat "$TREE/other/$kernel/timestamp.json" >"$file" ;;
			long) truncate -s 100G "$file" ;;
			esac
			kcarectl --unload >/dev/null 2>&1
			rm -rf "$STATE/levels"
			run timeout 20 kcarectl --apply-cached
			case $file in
			*/timestamp.json)
				# Root has verified an earlier one itself, and goes by that; it says what it found.
				is "$evil timestamp: level" "$(level)" 1
				like "$evil timestamp: status" "$status" '^(6|9)$'
				;;
			*) is "$evil payload: nothing of it is applied, and it ends" "$(level) $status" "0 1" ;;
			esac
			rm -rf "$CACHE/tree"
			cp -a /root/tree "$CACHE/tree"
		done
	done
	succeeds kcarectl --apply-cached
	is "level" "$(level)" 1
	check_result

	start_test "killed at any moment"
	local i kills=${KILLS:-20} pid
	for ((i = 0; i < kills; i++)); do
		kcarectl --unload >/dev/null 2>&1
		rm -rf "$STATE/levels"
		[[ $((i % 3)) -ne 0 ]] || rm -rf "$STATE/tuf"
		kcarectl --apply-cached >/dev/null 2>&1 &
		pid=$!
		sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
		kill -KILL $pid 2>/dev/null
		wait $pid 2>/dev/null
		succeeds kcarectl --apply-cached
		is "level" "$(level)" 1
		succeeds kcarectl --history
		succeeds kcarectl --status
		is "nothing is held" "$(grep -c held <<<"$out")" 0
		is "no line of the history is damaged" "$(python3 -c '
import json, sys
print(sum(1 for line in open(sys.argv[1]) if line.strip() and not json.loads(line)))' "$STATE/history.jsonl" 2>&1)" 0
		[[ $good -eq 1 ]] || break
	done
	check_result

	go_down systemctl reboot
}

boot_1() {
	start_test "patched before the network, after an orderly shutdown"
	booted 1
	is "by the boot's service" "$(systemctl show -P Result -P ActiveState kcare.service | xargs)" "success active"
	local patched network
	patched=$(systemctl show -P ActiveEnterTimestampMonotonic kcare.service)
	network=$(systemctl show -P ActiveEnterTimestampMonotonic network-pre.target)
	[[ $patched -gt 0 && $patched -le $network ]] || fail "in front of network-pre.target" "$patched" "at most $network"
	like "the boot has not ended before" " $(systemctl show -P After multi-user.target) " ' kcare.service '
	succeeds kcarectl --history
	is "the history goes on" "$(grep -c 'apply     none -> 1       ok' <<<"$out" | sed 's/^[1-9][0-9]*$/some/')" some
	check_result
	echo $(($(date +%s) + 1)) >/root/cut
	go_down power_cut
}

boot_2() {
	start_test "a level that was live when the power went is held"
	booted 0
	is "the boot goes on" "$(systemctl show -P Result kcare.service)" success
	fails 1 kcarectl --status
	like "the status says so" "$out" 'held       patch level 1 was live'
	like "so does the journal" "$(journalctl -b -u kcare.service -o cat)" 'Patch level 1 was live when this machine went down'
	check_result

	start_test "a higher level is tried, and lasts"
	serve two
	settings CRASH_WINDOW=1s
	succeeds auto
	is "level" "$(level)" 2
	sleep 2
	succeeds test -e "$STATE/trial.json"
	succeeds systemctl start kcare-settle.service
	fails 1 test -e "$STATE/trial.json"
	check_result
	sync
	go_down power_cut
}

boot_3() {
	start_test "what was on trial no more is applied after a power cut"
	booted 2
	check_result
	go_down systemctl reboot
}

boot_4() {
	start_test "kcare.mode= on the kernel's command line"
	succeeds kcarectl --unload
	local line
	line=$(</proc/cmdline)
	echo "$line kcare.mode=no-apply" >/root/cmdline
	mount --bind /root/cmdline /proc/cmdline
	succeeds kcarectl --apply-cached
	like "by hand" "$out" '^Nothing is applied: kcare.mode=no-apply'
	systemctl start kcare-apply
	is "by the service" "$(level) $(systemctl show -P ConditionResult kcare-apply)" "0 no"
	fails 5 kcarectl --update
	like "an administrator is told" "$out" 'kcare.mode= on the kernel'
	serve two
	succeeds kcarectl --update --force
	is "and decides" "$(level)" 2
	umount /proc/cmdline
	check_result

	start_test "taken away again"
	succeeds env KCARE_TARGET="$KCARE_TARGET" /kcare/scripts/install --uninstall
	systemctl stop nginx-kcare
	is "nothing stays" "$(files | diff /root/before - | grep '^[<>]' | grep -v 'updates/kcare.ko\|/root/\|journal\|random-seed\|timesync')" ""
	fails 2 getent passwd _kcare
	check_result

	start_test "with another prefix"
	succeeds env KCARE_TARGET="$KCARE_TARGET" PREFIX=/usr/local /kcare/scripts/install "$RELEASE"
	succeeds systemctl start kcare-settle.service kcare-shutdown.service
	is "units" "$(systemctl show -P ExecStart kcare-fetch.service | grep -c /usr/local/bin/kcarectl)" 1
	succeeds sh -c 'eval "$(grep ^PATH= /etc/cron.d/kcare-cron)"; command -v kcarectl'
	# Who takes it away need not know the prefix.
	succeeds env KCARE_TARGET="$KCARE_TARGET" /kcare/scripts/install --uninstall
	is "nothing stays" "$(files | diff /root/before - | grep '^[<>]' | grep -v 'updates/kcare.ko\|/root/\|journal\|random-seed\|timesync')" ""
	fails 1 env KCARE_TARGET="$KCARE_TARGET" /kcare/scripts/install --uninstall
	check_result
}

"boot_$BOOT"
