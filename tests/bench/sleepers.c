// SPDX-License-Identifier: GPL-2.0
/*
 * Many threads, until stdin ends: `sleepers COUNT [TOKENS]` prints a line when all of them are there. They sleep, but
 * for those that have one of the tokens, which go round from each thread to the next one.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Threads of one process; each has mappings of its own, of which a process may have 65 530. */
#define PER_PROCESS 1000

/* A semaphore for each thread of all processes, which has as many tokens as the thread. */
static sem_t *tokens;
static long count;
/* Of the threads of this process. */
static pthread_barrier_t ready;

/* All or none: the other processes end with this one. */
static void die(const char *what, int err)
{
	fprintf(stderr, "sleepers: %s: %s\n", what, strerror(err));
	kill(0, SIGTERM);
	exit(1);
}

static void pass_on(sem_t *own)
{
	sem_t *next = own + 1 == tokens + count ? tokens : own + 1;

	for (;;)
		if (!sem_wait(own))
			sem_post(next);
}

static void *sleeper(void *own)
{
	pthread_barrier_wait(&ready);
	pass_on(own);
	return NULL;
}

/* A process with threads @first to @end - 1, itself the first; it writes a byte into @done when they are there. */
static void process(long first, long end, int done)
{
	pthread_attr_t attr;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_barrier_init(&ready, NULL, end - first);
	pthread_attr_init(&attr);
	err = pthread_attr_setstacksize(&attr, sysconf(_SC_THREAD_STACK_MIN));
	if (err)
		die("cannot set the size of stacks", err);
	pthread_attr_setguardsize(&attr, 0);
	for (long i = first + 1; i < end; i++) {
		pthread_t thread;

		err = pthread_create(&thread, &attr, sleeper, &tokens[i]);
		if (err)
			die("cannot make a thread", err);
	}
	pthread_barrier_wait(&ready);
	if (write(done, "", 1) != 1)
		_exit(1);
	pass_on(&tokens[first]);
}

int main(int argc, char **argv)
{
	long moving = argc == 3 ? atol(argv[2]) : 0;
	int done[2], processes = 0;
	char byte;

	count = argc == 2 || argc == 3 ? atol(argv[1]) : 0;
	if (count <= 0 || moving < 0 || pipe(done)) {
		fprintf(stderr, "Usage: sleepers COUNT [TOKENS]\n");
		return 2;
	}
	tokens = mmap(NULL, count * sizeof(*tokens), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tokens == MAP_FAILED)
		die("cannot map the semaphores", errno);
	for (long i = 0; i < count; i++)
		sem_init(&tokens[i], 1, 0);
	for (long first = 0; first < count; first += PER_PROCESS) {
		int pid = fork();

		if (pid < 0)
			die("cannot make a process", errno);
		if (!pid)
			process(first, first + PER_PROCESS < count ? first + PER_PROCESS : count, done[1]);
		processes++;
	}
	close(done[1]);
	for (int i = 0; i < processes; i++) {
		if (read(done[0], &byte, 1) != 1)
			die("cannot wait", errno);
	}
	for (long i = 0; i < moving; i++)
		sem_post(&tokens[i * count / moving]);
	puts("all there");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	return 0;
}
