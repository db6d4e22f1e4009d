// SPDX-License-Identifier: GPL-2.0
/*
 * Apply and unload a payload again and again while threads call the patched functions, and check every single result.
 *
 *	soak PAYLOAD CYCLES
 *	soak -g THREADS [-r] PAYLOAD CYCLES
 *
 * The payload has the patches cmdline and blocked-eventfd of tests/patches; with -g it has the patch getpid, so many
 * threads do nothing but that system call, and none of them may miss a state. With -r each of its patched states has the
 * function redirected by IPMODIFY and directly again, of which no call may notice anything.
 *
 * The kernel's history is one sequence of states, 0 original, 1 patched, 2 original, 3 patched, ... The results of calls
 * must fit to it as if every switch happened at one instant for all CPUs and for both functions: a call that starts when
 * some call has returned what state N gives must not give what only an earlier state does.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kcare.h"

/* Per function. */
#define CHECKERS 2
/* Threads that sleep most of the time, as those of servers do. */
#define IDLERS 400
#define THREADS_MAX (2 * CHECKERS + IDLERS)

/* The state is at least FLOOR and at most CEILING, says the one who switches; at least SEEN, say the results. */
static _Atomic uint64_t floor_state, ceiling_state, seen;
static atomic_bool stop;
static _Atomic uint64_t calls[2], wrong, mixed;
/* For each thread of -g, the state at the begin of the last call that has returned. */
static _Atomic uint64_t passed[THREADS_MAX];

/* A result of a call that began when the state was at least FROM. */
static void check(uint64_t from, bool patched, const char *what)
{
	uint64_t to = atomic_load(&ceiling_state), state = from, old;

	if ((state & 1) != patched)
		state++;
	if (state > to) {
		if (atomic_fetch_add(&wrong, 1) < 5)
			printf("%s gives the %s result; the state was between %llu and %llu\n", what,
			       patched ? "patched" : "original", (unsigned long long)from, (unsigned long long)to);
		return;
	}
	for (old = atomic_load(&seen); old < state;)
		if (atomic_compare_exchange_weak(&seen, &old, state))
			break;
}

static uint64_t begin(void)
{
	uint64_t known = atomic_load(&floor_state), results = atomic_load(&seen);

	return results > known ? results : known;
}

static void *check_cmdline(void *arg)
{
	static const char mark[] = " kcare=1\n";
	char text[4096];
	int fd = open("/proc/cmdline", O_RDONLY);

	(void)arg;
	if (fd < 0)
		die("/proc/cmdline");
	while (!atomic_load(&stop)) {
		uint64_t from = begin();
		ssize_t n = pread(fd, text, sizeof(text), 0);

		if (n < (ssize_t)sizeof(mark) || text[n - 1] != '\n')
			die("reading /proc/cmdline");
		check(from, !memcmp(text + n - strlen(mark), mark, strlen(mark)), "cmdline_proc_show");
		atomic_fetch_add(&calls[0], 1);
	}
	return NULL;
}

static void *check_eventfd(void *arg)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	(void)arg;
	if (fd < 0)
		die("eventfd");
	while (!atomic_load(&stop)) {
		uint64_t value = 7, from = begin();

		if (write(fd, &value, sizeof(value)) != sizeof(value) || read(fd, &value, sizeof(value)) != sizeof(value))
			die("using an eventfd");
		if (value != 7 && value != 1007) {
			printf("eventfd_read gives %llu\n", (unsigned long long)value);
			atomic_fetch_add(&mixed, 1);
		}
		check(from, value == 1007, "eventfd_read");
		atomic_fetch_add(&calls[1], 1);
	}
	return NULL;
}

static void *check_getpid(void *arg)
{
	pid_t own = getpid();

	if (prctl(PR_SET_NAME, "kcare-pid"))
		die("prctl");
	while (!atomic_load(&stop)) {
		uint64_t from = begin();
		long pid = syscall(SYS_getpid);

		if (pid != own && pid != 4243) {
			printf("getpid gives %ld\n", pid);
			atomic_fetch_add(&mixed, 1);
		}
		check(from, pid == 4243, "getpid");
		atomic_store(&passed[(uintptr_t)arg], from);
		atomic_fetch_add(&calls[0], 1);
	}
	return NULL;
}

/* Waits until each thread has made a whole call in this state. */
static void all_pass(unsigned long threads, uint64_t state)
{
	for (unsigned long i = 0; i < threads; i++)
		while (atomic_load(&passed[i]) < state)
			usleep(1000);
}

static void *idle(void *arg)
{
	while (!atomic_load(&stop))
		usleep(200000 + 1000 * (uintptr_t)arg);
	return NULL;
}

static void succeeds(const char *what, unsigned long cycle, struct answer a)
{
	if (!a.err)
		return;
	printf("%s of cycle %lu refused (%s): %s\n", what, cycle, reason_name(a.reason), answer_text);
	exit(1);
}

/* Has what is live be redirected in another way. */
static void redirect(const char *way)
{
	int fd = open("/sys/class/misc/kcare/redirect", O_WRONLY);

	if (fd < 0 || write(fd, way, 1) != 1)
		die("/sys/class/misc/kcare/redirect");
	close(fd);
}

static void *(*worker(uintptr_t i, bool getpid))(void *)
{
	if (getpid)
		return check_getpid;
	return i < CHECKERS ? check_cmdline : i < 2 * CHECKERS ? check_eventfd : idle;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS_MAX];
	unsigned long cycles, cycle, hammers = 0, count;
	size_t size;
	void *data;
	int device, option;
	bool convert = false;

	while ((option = getopt(argc, argv, "g:r")) != -1) {
		if (option == 'g')
			hammers = strtoul(optarg, NULL, 0);
		else if (option == 'r')
			convert = true;
		else
			return 2;
	}
	argv += optind - 1;
	if (argc - optind != 2 || hammers > THREADS_MAX)
		return 2;
	count = hammers ? hammers : THREADS_MAX;
	data = slurp(argv[1], &size);
	cycles = strtoul(argv[2], NULL, 0);
	device = open("/dev/kcare", O_RDWR);
	if (device < 0)
		die("/dev/kcare");
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uintptr_t i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, worker(i, hammers), (void *)i))
			die("pthread_create");

	for (cycle = 0; cycle < cycles; cycle++) {
		uint64_t state = 2 * cycle;

		atomic_store(&ceiling_state, state + 1);
		succeeds("apply", cycle, apply(device, data, size, 0));
		atomic_store(&floor_state, state + 1);
		/* Patched, and nothing under way: for as long as it takes to be seen. */
		usleep(1000);
		all_pass(hammers, state + 1);
		if (convert) {
			redirect("2");
			redirect("1");
			all_pass(hammers, state + 1);
		}
		atomic_store(&ceiling_state, state + 2);
		succeeds("unload", cycle, back(device, UNLOAD, 0));
		atomic_store(&floor_state, state + 2);
		usleep(1000);
		all_pass(hammers, state + 2);
	}
	atomic_store(&stop, true);
	for (unsigned long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	if (hammers)
		printf("%lu cycles, %llu calls of getpid by %lu threads, %llu wrong\n", cycle,
		       (unsigned long long)atomic_load(&calls[0]), hammers,
		       (unsigned long long)(atomic_load(&wrong) + atomic_load(&mixed)));
	else
		printf("%lu cycles, %llu calls of cmdline_proc_show, %llu of eventfd_read, %llu wrong\n", cycle,
		       (unsigned long long)atomic_load(&calls[0]), (unsigned long long)atomic_load(&calls[1]),
		       (unsigned long long)(atomic_load(&wrong) + atomic_load(&mixed)));
	return atomic_load(&wrong) || atomic_load(&mixed) ? 1 : 0;
}
