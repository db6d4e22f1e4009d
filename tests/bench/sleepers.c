// SPDX-License-Identifier: GPL-2.0
/*
 * Many threads that sleep, until stdin ends: `sleepers COUNT` prints a line when all of them do.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Threads of one process; each has mappings of its own, of which a process may have 65 530. */
#define PER_PROCESS 1000

/* All or none: the other processes end with this one. */
static void die(const char *what, int err)
{
	fprintf(stderr, "sleepers: %s: %s\n", what, strerror(err));
	kill(0, SIGTERM);
	exit(1);
}

static void *sleeper(void *ready)
{
	pthread_barrier_wait(ready);
	for (;;)
		pause();
	return NULL;
}

/* A process with @count threads, itself included; it writes a byte into @done when they are there. */
static void process(int count, int done)
{
	pthread_barrier_t ready;
	pthread_attr_t attr;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_barrier_init(&ready, NULL, count);
	pthread_attr_init(&attr);
	err = pthread_attr_setstacksize(&attr, sysconf(_SC_THREAD_STACK_MIN));
	if (err)
		die("cannot set the size of stacks", err);
	pthread_attr_setguardsize(&attr, 0);
	for (int i = 1; i < count; i++) {
		pthread_t thread;

		err = pthread_create(&thread, &attr, sleeper, &ready);
		if (err)
			die("cannot make a thread", err);
	}
	pthread_barrier_wait(&ready);
	if (write(done, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	int count = argc == 2 ? atoi(argv[1]) : 0, done[2], processes = 0;
	char byte;

	if (count <= 0 || pipe(done)) {
		fprintf(stderr, "Usage: sleepers COUNT\n");
		return 2;
	}
	for (; count > 0; count -= PER_PROCESS) {
		int pid = fork();

		if (pid < 0)
			die("cannot make a process", errno);
		if (!pid)
			process(count < PER_PROCESS ? count : PER_PROCESS, done[1]);
		processes++;
	}
	close(done[1]);
	for (int i = 0; i < processes; i++) {
		if (read(done[0], &byte, 1) != 1)
			die("cannot wait", errno);
	}
	puts("all asleep");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	return 0;
}
