// SPDX-License-Identifier: GPL-2.0
/*
 * How long is a program kept waiting? One thread wakes up every PERIOD and times the gaps between; another sends a
 * request over the loopback device as often, and times the answer. For each line of stdin a line is printed, with the
 * longest of each since the line before, in nanoseconds: GAP ANSWER.
 *
 * The gaps are timed at the highest priority, so that only the kernel can be what is in the way; client and server
 * are as any other program.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds. A thread that never slept would be throttled at this priority. */
#define PERIOD 200000

static atomic_ullong longest_gap, longest_answer;

static void die(const char *what, int err)
{
	fprintf(stderr, "latency: %s: %s\n", what, strerror(err));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void nap(void)
{
	struct timespec t = { .tv_nsec = PERIOD };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

/* One thread writes each, main() takes. */
static void keep(atomic_ullong *longest, uint64_t ns)
{
	unsigned long long old = atomic_load(longest);

	while (ns > old && !atomic_compare_exchange_weak(longest, &old, ns))
		;
}

static void *gaps(void *unused)
{
	uint64_t last = now();

	(void)unused;
	for (;;) {
		uint64_t t;

		nap();
		t = now();
		keep(&longest_gap, t - last);
		last = t;
	}
	return NULL;
}

static void *server(void *listening)
{
	int fd = accept(*(int *)listening, NULL, NULL), on = 1;
	char byte;

	if (fd < 0)
		die("accept", errno);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while (read(fd, &byte, 1) == 1)
		if (write(fd, &byte, 1) != 1)
			break;
	die("the server's connection", errno);
	return NULL;
}

static void *client(void *connected)
{
	int fd = *(int *)connected;
	char byte = 0;

	for (;;) {
		uint64_t start = now();

		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("the client's connection", errno);
		keep(&longest_answer, now() - start);
		nap();
	}
	return NULL;
}

static void start(void *(*function)(void *), void *argument, int priority)
{
	struct sched_param param = { .sched_priority = priority };
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	pthread_attr_init(&attr);
	if (priority) {
		pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
		pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
		pthread_attr_setschedparam(&attr, &param);
	}
	err = pthread_create(&thread, &attr, function, argument);
	if (err)
		die("cannot make a thread", err);
}

int main(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listening = socket(AF_INET, SOCK_STREAM, 0), connected = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	socklen_t size = sizeof(address);
	char line[64];

	if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 1) ||
	    getsockname(listening, (struct sockaddr *)&address, &size))
		die("cannot listen", errno);
	start(server, &listening, 0);
	if (connect(connected, (struct sockaddr *)&address, size))
		die("cannot connect", errno);
	setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	start(client, &connected, 0);
	start(gaps, NULL, sched_get_priority_max(SCHED_FIFO));
	while (fgets(line, sizeof(line), stdin)) {
		unsigned long long gap = atomic_exchange(&longest_gap, 0), answer = atomic_exchange(&longest_answer, 0);

		printf("%llu %llu\n", gap, answer);
		fflush(stdout);
	}
	return 0;
}
