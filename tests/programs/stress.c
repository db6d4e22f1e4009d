// SPDX-License-Identifier: GPL-2.0
/*
 * Apply, replace, roll back and unload at random while threads use what is patched, and check every single result.
 *
 *	stress [-s SEED] OPERATIONS PAYLOAD1 PAYLOAD2 PAYLOAD3 PAYLOAD4
 *
 * The payloads are levels 1 to 4, and do what `levels` says. An operation is an apply, a rollback or an unload, be it that
 * it switches or that it must be refused; beside them there are dry runs and spoilt payloads. After each the level that is live and the one that is kept must be those that the rules
 * of replacing say; a refusal must change neither.
 *
 * Everything that the threads see must fit to the one sequence of levels that were live, as if each switch happened at
 * one instant for all CPUs and all functions: a call that begins when some call has returned what step N gives must not
 * give what only an earlier step does. Module dummy may come and go meanwhile.
 *
 * Prints how often which request got which answer, and at the end what was done. The exit status is 1 if anything was not
 * as it should be.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kcare.h"

#define LEVELS 4
/* Steps of the sequence that a call may still be told about. */
#define RING 256
/* Threads of each kind, and those that only sleep now and then. */
#define USERS 2
#define IDLERS 100
/* For how long a thread sleeps in a function at most, in microseconds: now and then longer than kcare waits for it. */
#define NAP 50000
#define LONG_NAP 600000
/* One nap of so many is a long one. */
#define LONG_NAPS 64

/* What each level makes of each function; level 0 is none. */
enum what { CMDLINE, EVENTFD, DUMMY, NR_FUNCTIONS };
static const struct {
	const char *cmdline;
	unsigned int event;
	unsigned int collisions;
} levels[LEVELS + 1] = {
	{ "", 0, 0 },
	{ " kcare=1", 1000, 0 },
	{ " kcare.multi=1", 0, 4243 },
	{ "", 1000, 4243 },
	{ " kcare.multi=1", 0, 0 },
};

enum way { APPLY_WAY, TRY_WAY, ROLLBACK_WAY, UNLOAD_WAY, SPOILT_WAY, NR_WAYS };
static const char *const ways[] = { "apply", "dry run", "rollback", "unload", "spoilt payload" };

static struct {
	const void *data;
	size_t size;
} payloads[LEVELS + 1];

/* The step is at least FLOOR and at most CEILING, says the one who switches; at least SEEN, say the results. */
static _Atomic uint64_t floor_step, ceiling_step, seen;
static _Atomic unsigned int level_of[RING];
static atomic_bool stop;
static _Atomic uint64_t calls[NR_FUNCTIONS], absent, wrong;

static int device;
static uint64_t seed = 1;
static char original[4096];
static struct {
	uint32_t reason;
	unsigned int count;
} answers[NR_WAYS][32];

/* xorshift64 */
static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t begin(void)
{
	uint64_t known = atomic_load(&floor_step), results = atomic_load(&seen);

	return results > known ? results : known;
}

/* A result of a call that began when the step was at least FROM; FITS tells whether it is what a level gives. */
static void check(uint64_t from, enum what what, bool (*fits)(unsigned int level, const void *result), const void *result,
		  const char *shown)
{
	uint64_t to = atomic_load(&ceiling_step), step, old;

	atomic_fetch_add(&calls[what], 1);
	for (step = from; step <= to; step++)
		if (fits(atomic_load(&level_of[step % RING]), result))
			break;
	if (step > to) {
		if (atomic_fetch_add(&wrong, 1) < 5)
			printf("%s: neither of steps %llu (level %u) to %llu (level %u) gives this\n", shown,
			       (unsigned long long)from, atomic_load(&level_of[from % RING]), (unsigned long long)to,
			       atomic_load(&level_of[to % RING]));
		return;
	}
	for (old = atomic_load(&seen); old < step;)
		if (atomic_compare_exchange_weak(&seen, &old, step))
			break;
}

static bool fits_cmdline(unsigned int level, const void *result)
{
	return !strcmp(result, levels[level].cmdline);
}

static void *use_cmdline(void *arg)
{
	char line[4096];
	int fd = open("/proc/cmdline", O_RDONLY);
	size_t len = strlen(original);

	(void)arg;
	while (!atomic_load(&stop)) {
		uint64_t from = begin();
		ssize_t n = pread(fd, line, sizeof(line), 0);

		if (n <= (ssize_t)len || line[n - 1] != '\n' || memcmp(line, original, len))
			die("reading /proc/cmdline");
		line[n - 1] = 0;
		check(from, CMDLINE, fits_cmdline, line + len, line + len);
	}
	return NULL;
}

static bool fits_event(unsigned int level, const void *result)
{
	return *(const uint64_t *)result == 7 + levels[level].event;
}

static void read_event(int fd)
{
	uint64_t value = 0, from = begin();
	char shown[64];

	if (read(fd, &value, sizeof(value)) != sizeof(value))
		die("reading an eventfd");
	snprintf(shown, sizeof(shown), "eventfd_read %llu", (unsigned long long)value);
	check(from, EVENTFD, fits_event, &value, shown);
}

static void *use_event(void *arg)
{
	static const uint64_t seven = 7;
	int fd = eventfd(0, 0);

	(void)arg;
	while (!atomic_load(&stop)) {
		if (write(fd, &seven, sizeof(seven)) != sizeof(seven))
			die("writing an eventfd");
		read_event(fd);
	}
	return NULL;
}

/* What some threads sleep for in eventfd_read(), and others write to; and whether its sleeper has ended. */
static int doors[USERS];
static atomic_bool ended[USERS];

static void *sleep_in_event(void *arg)
{
	while (!atomic_load(&stop))
		read_event(doors[(uintptr_t)arg]);
	atomic_store(&ended[(uintptr_t)arg], true);
	return NULL;
}

/* What is to be read from an eventfd, by its file in /proc. */
static unsigned long long event_count(const char *path)
{
	unsigned long long count = 0;
	char line[256];
	FILE *info = fopen(path, "r");

	if (!info)
		die(path);
	while (fgets(line, sizeof(line), info) && sscanf(line, "eventfd-count: %llx", &count) != 1)
		;
	fclose(info);
	return count;
}

static void *wake_event(void *arg)
{
	static const uint64_t seven = 7;
	uintptr_t me = (uintptr_t)arg;
	uint64_t dice = seed + 1 + me;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", doors[me]);
	/* A sleeper that has not seen `stop` goes to sleep once more. */
	while (!atomic_load(&ended[me])) {
		if (!atomic_load(&stop))
			usleep(draw(&dice) % (draw(&dice) % LONG_NAPS ? NAP : LONG_NAP));
		if (write(doors[me], &seven, sizeof(seven)) != sizeof(seven))
			die("waking a reader");
		/* A reader takes all there is, and must find seven. */
		while (event_count(path) && !atomic_load(&ended[me]))
			usleep(1000);
	}
	return NULL;
}

static bool fits_collisions(unsigned int level, const void *result)
{
	return *(const unsigned long *)result == levels[level].collisions;
}

static void *use_dummy(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		char line[64], shown[64];
		int fd = open("/sys/class/net/dummy0/statistics/collisions", O_RDONLY);
		uint64_t from = begin();
		ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
		unsigned long collisions;

		if (fd >= 0)
			close(fd);
		if (n <= 0) {
			/* The module is not there, or goes. */
			atomic_fetch_add(&absent, 1);
			usleep(2000);
			continue;
		}
		line[n] = 0;
		collisions = strtoul(line, NULL, 10);
		snprintf(shown, sizeof(shown), "collisions %lu", collisions);
		check(from, DUMMY, fits_collisions, &collisions, shown);
		usleep(500);
	}
	return NULL;
}

static void *idle(void *arg)
{
	while (!atomic_load(&stop))
		usleep(200000 + 1000 * (uintptr_t)arg);
	return NULL;
}

static void count(enum way way, uint32_t reason)
{
	size_t i = 0;

	while (answers[way][i].count && answers[way][i].reason != reason)
		i++;
	if (i == sizeof(answers[way]) / sizeof(answers[way][0]) - 1)
		die("answers");
	answers[way][i].reason = reason;
	answers[way][i].count++;
}

/* ~0 is a refusal that gives none. */
static uint32_t reason_of(struct answer a)
{
	return a.err && !a.reason ? ~0u : a.reason;
}

/* A copy with one wrong bit. */
static uint32_t spoilt(unsigned int level, uint64_t place)
{
	size_t size = payloads[level].size;
	unsigned char *copy = malloc(size);
	uint32_t reason;

	if (!copy)
		die("malloc");
	memcpy(copy, payloads[level].data, size);
	copy[place / 8 % size] ^= 1u << place % 8;
	reason = reason_of(apply(device, copy, size, DOWNGRADE));
	free(copy);
	return reason;
}

/* What must be answered: a reason's name, "ok", or NULL for any refusal. */
static const char *expected(enum way way, unsigned int wanted, uint32_t flags, unsigned int live, unsigned int kept)
{
	switch (way) {
	case APPLY_WAY:
	case TRY_WAY:
		return wanted == live ? "already-live" : wanted < live && !(flags & DOWNGRADE) ? "lower-level" : "ok";
	case ROLLBACK_WAY:
		return !live ? "nothing-applied" : !kept ? "no-previous" : "ok";
	case UNLOAD_WAY:
		return live ? "ok" : "nothing-applied";
	default:
		return NULL;
	}
}

/* The request, with the step that it leads to known to the threads if it is one that switches. */
static uint32_t request(enum way way, unsigned int wanted, uint32_t flags, uint64_t step, uint64_t place)
{
	uint32_t reason;

	if (way == TRY_WAY)
		return reason_of(apply(device, payloads[wanted].data, payloads[wanted].size, flags | DRY_RUN));
	if (way == SPOILT_WAY)
		return spoilt(wanted, place);
	atomic_store(&level_of[(step + 1) % RING], wanted);
	atomic_store(&ceiling_step, step + 1);
	if (way == APPLY_WAY)
		reason = reason_of(apply(device, payloads[wanted].data, payloads[wanted].size, flags));
	else
		reason = reason_of(back(device, way == ROLLBACK_WAY ? ROLLBACK : UNLOAD, 0));
	if (reason) {
		atomic_store(&ceiling_step, step);
		if (atomic_load(&seen) > step) {
			printf("a call has seen level %u, which was refused\n", wanted);
			atomic_fetch_add(&wrong, 1);
		}
	} else {
		atomic_store(&floor_step, step + 1);
	}
	return reason;
}

/* What the kernel says is live and kept. */
static void compare(enum way way, uint32_t reason, unsigned int live, unsigned int kept)
{
	struct info i;

	if (ioctl(device, INFO, &i))
		die("info");
	if (i.level == live && i.previous == kept)
		return;
	printf("after %s (%s) level %u is live and %u kept; should be %u and %u\n", ways[way], reason_name(reason), i.level,
	       i.previous, live, kept);
	atomic_fetch_add(&wrong, 1);
}

static enum way choose(uint64_t *dice)
{
	static const struct {
		enum way way;
		unsigned int of_100;
	} chances[] = { { APPLY_WAY, 50 }, { ROLLBACK_WAY, 18 }, { UNLOAD_WAY, 18 }, { TRY_WAY, 8 }, { SPOILT_WAY, 6 } };
	unsigned int number = draw(dice) % 100, i = 0;

	while (number >= chances[i].of_100)
		number -= chances[i++].of_100;
	return chances[i].way;
}

int main(int argc, char **argv)
{
	pthread_t threads[5 * USERS + IDLERS];
	size_t nr_threads = 0;
	unsigned long wanted_operations, operations = 0, switches = 0, blocked = 0;
	unsigned int live = 0, kept = 0;
	uint64_t step = 0, dice;
	int fd;

	if (argc > 2 && !strcmp(argv[1], "-s")) {
		seed = strtoull(argv[2], NULL, 0) | 1;
		argv += 2;
		argc -= 2;
	}
	if (argc != 2 + LEVELS)
		return 2;
	wanted_operations = strtoul(argv[1], NULL, 0);
	for (unsigned int level = 1; level <= LEVELS; level++)
		payloads[level].data = slurp(argv[1 + level], &payloads[level].size);
	device = open("/dev/kcare", O_RDWR);
	fd = open("/proc/cmdline", O_RDONLY);
	if (device < 0 || fd < 0 || read(fd, original, sizeof(original) - 1) <= 0)
		die("cannot open what is needed");
	original[strcspn(original, "\n")] = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);

	for (uintptr_t i = 0; i < USERS; i++) {
		void *(*const users[])(void *) = { use_cmdline, use_event, sleep_in_event, wake_event, use_dummy };

		doors[i] = eventfd(0, 0);
		for (size_t k = 0; k < sizeof(users) / sizeof(users[0]); k++)
			if (pthread_create(&threads[nr_threads++], NULL, users[k], (void *)i))
				die("pthread_create");
	}
	for (uintptr_t i = 0; i < IDLERS; i++)
		if (pthread_create(&threads[nr_threads++], NULL, idle, (void *)i))
			die("pthread_create");

	dice = seed;
	while (operations < wanted_operations && !atomic_load(&wrong)) {
		enum way way = choose(&dice);
		unsigned int wanted = way == UNLOAD_WAY ? 0 : way == ROLLBACK_WAY ? kept : 1 + draw(&dice) % LEVELS;
		uint32_t flags = draw(&dice) % 4 ? DOWNGRADE : 0;
		const char *right = expected(way, wanted, flags, live, kept);
		uint32_t reason = request(way, wanted, flags, step, draw(&dice));
		const char *got = reason_name(reason);

		count(way, reason);
		/* A task that does not get out of the way in time is a reason at any time. */
		if (!strcmp(got, "blocked"))
			blocked++;
		else if (right ? strcmp(got, right) : !reason) {
			printf("%s of level %u over %u (%u kept): %s, and should be %s: %s\n", ways[way], wanted, live, kept, got,
			       right ? right : "refused", answer_text);
			atomic_fetch_add(&wrong, 1);
		}
		if (!reason && way != TRY_WAY) {
			kept = way == APPLY_WAY ? live : 0;
			live = wanted;
			step++;
			switches++;
		}
		compare(way, reason, live, kept);
		usleep(draw(&dice) % (1u << draw(&dice) % 16));
		if (way != TRY_WAY && way != SPOILT_WAY && ++operations % 100 == 0)
			fprintf(stderr, "%lu of %lu\n", operations, wanted_operations);
	}
	while (live && request(UNLOAD_WAY, 0, 0, step, 0))
		usleep(NAP);
	atomic_store(&stop, true);
	for (size_t i = 0; i < nr_threads; i++)
		pthread_join(threads[i], NULL);

	for (enum way way = 0; way < NR_WAYS; way++)
		for (size_t i = 0; answers[way][i].count; i++)
			printf("%s\t%s\t%u\n", ways[way], reason_name(answers[way][i].reason), answers[way][i].count);
	printf("%lu operations, %lu switches, %lu blocked; calls: %llu cmdline_proc_show, %llu eventfd_read, "
	       "%llu dummy_get_stats64 (%llu without the module); %llu wrong\n",
	       operations, switches, blocked, (unsigned long long)atomic_load(&calls[CMDLINE]),
	       (unsigned long long)atomic_load(&calls[EVENTFD]), (unsigned long long)atomic_load(&calls[DUMMY]),
	       (unsigned long long)atomic_load(&absent), (unsigned long long)atomic_load(&wrong));
	return atomic_load(&wrong) != 0;
}
