// SPDX-License-Identifier: GPL-2.0
/*
 * One request to kcare again and again: with the first allocation failing in the kernel, with the second, and so on,
 * until there was none left to fail (Documentation/fault-injection in the kernel's source, fail-nth).
 *
 *	faults [-n MAX] [PAYLOAD]... -- REQUEST
 *
 *	REQUEST is: apply PAYLOAD | try PAYLOAD | unload | rollback | history | info | read | load MODULE NAME |
 *	redirect FROM TO
 *
 * The payloads in front are applied before, one over the other. A request that fails must leave what can be seen as it
 * was; one that succeeds all the same must do what it does without a fault. Prints how often which answer came:
 *
 *	COUNT <tab> ERRNO <tab> REASON
 *
 * and "N allocations" at the end. Whatever is not as it should be is said on stderr, and the exit status is 1.
 *
 * The numbers are those of rust-kmod/payload/uapi.rs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kcare.h"

struct payload {
	const void *data;
	size_t size;
};

/* What can be seen from user space, all of it as text. */
enum { CMDLINE, MODULES, FUNCTIONS, STATE, LEVEL, PREVIOUS, REDIRECT };
static const char *const views[] = {
	[CMDLINE] = "/proc/cmdline", [MODULES] = "/proc/modules", [FUNCTIONS] = "/sys/kernel/tracing/enabled_functions",
	[STATE] = "/sys/class/misc/kcare/state", [LEVEL] = "/sys/class/misc/kcare/level",
	[PREVIOUS] = "/sys/class/misc/kcare/previous_level", [REDIRECT] = "/sys/class/misc/kcare/redirect",
};

#define NR_VIEWS (sizeof(views) / sizeof(views[0]))

struct sight {
	char text[NR_VIEWS][8192];
	uint64_t event;
};

static struct {
	int err;
	uint32_t reason;
	unsigned int count;
} answers[64];

static int device, fail_nth, event, module = -1, redirect = -1;
static struct payload setup[8], payload;
static int nr_setup;
static const char *request, *module_name, *redirect_from, *redirect_to;
static bool good = true;

static struct payload read_payload(const char *path)
{
	struct payload p;

	p.data = slurp(path, &p.size);
	return p;
}

static struct answer ask(void)
{
	static char events[1 << 16];
	struct history h = { .events = (uintptr_t)events, .count = 8 };
	long ret;

	answer_text[0] = 0;
	if (!strcmp(request, "apply"))
		return apply(device, payload.data, payload.size, 0);
	if (!strcmp(request, "try"))
		return apply(device, payload.data, payload.size, DRY_RUN);
	if (!strcmp(request, "unload"))
		return back(device, UNLOAD, 0);
	if (!strcmp(request, "rollback"))
		return back(device, ROLLBACK, 0);
	if (!strcmp(request, "history"))
		ret = ioctl(device, HISTORY, &h);
	else if (!strcmp(request, "info"))
		ret = ioctl(device, INFO, events);
	else if (!strcmp(request, "read"))
		ret = pread(device, events, sizeof(events), 0);
	else if (!strcmp(request, "redirect"))
		ret = pwrite(redirect, redirect_to, 1, 0);
	else
		ret = syscall(SYS_finit_module, module, "", 0);
	return (struct answer){ .err = ret < 0 ? errno : 0 };
}

/* Nothing is applied. */
static void reset(void)
{
	if (module >= 0 && syscall(SYS_delete_module, module_name, O_NONBLOCK) && errno != ENOENT)
		die(module_name);
	back(device, UNLOAD, 0);
	if (redirect >= 0 && pwrite(redirect, redirect_from, 1, 0) != 1)
		die(views[REDIRECT]);
}

/* The state that the request starts from. */
static void prepare(void)
{
	struct answer a = { 0 };

	reset();
	for (int i = 0; i < nr_setup && !a.err; i++)
		a = apply(device, setup[i].data, setup[i].size, 0);
	if (a.err) {
		fprintf(stderr, "cannot be applied any more: %s, %s\n", strerror(a.err), answer_text);
		exit(1);
	}
}

static void look(struct sight *s)
{
	uint64_t one = 1;

	memset(s, 0, sizeof(*s));
	for (size_t i = 0; i < NR_VIEWS; i++) {
		int fd = open(views[i], O_RDONLY);
		size_t got = 0;
		ssize_t n;

		while (fd >= 0 && got < sizeof(s->text[i]) - 1 &&
		       (n = read(fd, s->text[i] + got, sizeof(s->text[i]) - 1 - got)) > 0)
			got += n;
		close(fd);
		/* Where modules are is another thing each time; where functions lead, what they do tells. */
		for (char *line = s->text[i]; (i == MODULES || i == FUNCTIONS) && *line; line += strspn(line, "\n")) {
			char *rest = *line == '\t' ? line : strstr(line, i == MODULES ? " 0x" : " ");
			char *end = line + strcspn(line, "\n");

			if (rest && rest < end) {
				memmove(rest, end, strlen(end) + 1);
				end = rest;
			}
			line = end;
		}
	}
	if (write(event, &one, sizeof(one)) != sizeof(one) || read(event, &s->event, sizeof(s->event)) < 0)
		die("eventfd");
}

/* For how long memory may not be given back that nobody uses, where that took memory, in tenths of a second. */
#define LATER 150

static void same(unsigned long nth, const char *when, const struct sight *wanted)
{
	static struct sight now;
	int i;

	look(&now);
	for (i = 0; i < LATER && strcmp(now.text[MODULES], wanted->text[MODULES]); i++) {
		usleep(100000);
		look(&now);
	}
	for (size_t i = 0; i < NR_VIEWS; i++) {
		if (!strcmp(now.text[i], wanted->text[i]))
			continue;
		fprintf(stderr, "allocation %lu, %s: %s is\n%s\nand should be\n%s\n", nth, when, views[i], now.text[i],
			wanted->text[i]);
		good = false;
	}
	if (now.event != wanted->event) {
		fprintf(stderr, "allocation %lu, %s: the eventfd's value is %llu\n", nth, when,
			(unsigned long long)now.event);
		good = false;
	}
}

static void count(struct answer a)
{
	size_t i = 0;

	while (answers[i].count && (answers[i].err != a.err || answers[i].reason != a.reason))
		i++;
	if (i == sizeof(answers) / sizeof(answers[0]) - 1)
		die("answers");
	answers[i].err = a.err;
	answers[i].reason = a.reason;
	answers[i].count++;
}

/* Has the n-th allocation of the request fail; says whether there were as many. */
static bool fault(unsigned long nth, struct answer *a)
{
	char number[32];
	ssize_t len = snprintf(number, sizeof(number), "%lu", nth);

	if (pwrite(fail_nth, number, len, 0) != len)
		die("fail-nth");
	*a = ask();
	/* Reading allocates nothing before it has taken the number. */
	len = pread(fail_nth, number, sizeof(number) - 1, 0);
	if (pwrite(fail_nth, "0", 1, 0) != 1 || len <= 0)
		die("fail-nth");
	number[len] = 0;
	return !atoi(number);
}

int main(int argc, char **argv)
{
	static struct sight before, after;
	unsigned long nth = 1, max = 100000;
	struct answer a;
	int i = 1;

	if (argc > 2 && !strcmp(argv[1], "-n")) {
		max = strtoul(argv[2], NULL, 0);
		i = 3;
	}
	for (; i < argc && strcmp(argv[i], "--") && nr_setup < 8; i++)
		setup[nr_setup++] = read_payload(argv[i]);
	request = i + 1 < argc ? argv[i + 1] : "";
	if (!*request) {
		fprintf(stderr, "Usage: faults [-n MAX] [PAYLOAD]... -- REQUEST [ARGUMENT]...\n");
		return 2;
	}
	if (!strcmp(request, "load") && i + 3 < argc) {
		module = open(argv[i + 2], O_RDONLY | O_CLOEXEC);
		module_name = argv[i + 3];
		if (module < 0)
			die(argv[i + 2]);
	} else if (!strcmp(request, "redirect") && i + 3 < argc) {
		redirect_from = argv[i + 2];
		redirect_to = argv[i + 3];
		redirect = open(views[REDIRECT], O_RDWR | O_CLOEXEC);
		if (redirect < 0)
			die(views[REDIRECT]);
	} else if (i + 2 < argc) {
		payload = read_payload(argv[i + 2]);
	}
	device = open("/dev/kcare", O_RDWR | O_CLOEXEC);
	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC);
	if (device < 0 || fail_nth < 0 || event < 0)
		die("cannot open what is needed");

	/* Without a fault: what it does, and what is allocated once only. */
	prepare();
	look(&before);
	a = ask();
	if (a.err) {
		fprintf(stderr, "it fails without a fault: %s, %s\n", strerror(a.err), answer_text);
		return 1;
	}
	look(&after);
	prepare();

	for (; nth <= max && good && fault(nth, &a); nth++) {
		count(a);
		if (a.err) {
			same(nth, "refused", &before);
		} else {
			same(nth, "done", &after);
			prepare();
			same(nth, "back", &before);
		}
		if (!good)
			fprintf(stderr, "allocation %lu: the answer was %s, %s: %s\n", nth, strerrorname_np(a.err),
				reason_name(a.reason), answer_text);
	}
	/* The last time it was asked there was no fault. */
	if (good && a.err) {
		fprintf(stderr, "it fails after all faults: %s, %s\n", strerror(a.err), answer_text);
		good = false;
	}
	if (good && nth <= max)
		same(nth, "done without a fault", &after);
	reset();
	for (size_t k = 0; answers[k].count; k++)
		printf("%u\t%s\t%s\n", answers[k].count, answers[k].err ? strerrorname_np(answers[k].err) : "ok",
		       answers[k].reason ? reason_name(answers[k].reason) : "-");
	printf("%lu allocations\n", nth - 1);
	return !good;
}
