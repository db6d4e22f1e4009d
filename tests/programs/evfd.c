// SPDX-License-Identifier: GPL-2.0
/*
 * An eventfd from user space: its read and write functions in the kernel are what some test patches change.
 *
 *	evfd keep		keep it as file 3, and write 1 for each line of input, which it prints then
 *	evfd sleep		sleep inside of a read until SIGTERM, which writes 1; print the value read
 *	evfd poke COUNT [BAD]	print what write(eventfd, BUFFER, COUNT) answers: a number or an errno by name; BAD: with
 *				a buffer that is not mapped
 *	evfd value		print what a read gives after a write of 1
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int fd;
static char buffer[4096];

static void wake(int sig)
{
	uint64_t one = 1;

	(void)sig;
	if (write(fd, &one, sizeof(one)) != sizeof(one))
		_exit(2);
}

static int print_value(void)
{
	uint64_t value;

	if (read(fd, &value, sizeof(value)) != sizeof(value)) {
		puts(strerrorname_np(errno));
		return 1;
	}
	printf("%llu\n", (unsigned long long)value);
	return 0;
}

int main(int argc, char **argv)
{
	/* SA_RESTART: the sleeper is to leave with a value and not with EINTR. */
	struct sigaction action = { .sa_handler = wake, .sa_flags = SA_RESTART };

	fd = eventfd(0, 0);
	if (fd < 0)
		return 2;
	if (argc == 2 && !strcmp(argv[1], "sleep")) {
		sigaction(SIGTERM, &action, NULL);
		return print_value();
	}
	if (argc == 2 && !strcmp(argv[1], "keep")) {
		setvbuf(stdout, NULL, _IOLBF, 0);
		while (fgets(buffer, sizeof(buffer), stdin)) {
			wake(0);
			fputs(buffer, stdout);
		}
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "value")) {
		wake(0);
		return print_value();
	}
	if (argc >= 3 && !strcmp(argv[1], "poke")) {
		ssize_t n = write(fd, argc > 3 ? (char *)16 : buffer, strtoul(argv[2], NULL, 0));

		if (n < 0)
			puts(strerrorname_np(errno));
		else
			printf("%zd\n", n);
		return 0;
	}
	return 2;
}
