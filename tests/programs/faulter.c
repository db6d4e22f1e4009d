// SPDX-License-Identifier: GPL-2.0
/*
 * A task that sleeps inside of getcwd(): the page of its buffer is not there until the end of the standard input
 * (userfaultfd). Prints what getcwd() answers: a length or an errno by name.
 *
 *	faulter SIZE
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE 8192

static int faults;
static char *page;

static void *fill(void *unused)
{
	struct uffdio_zeropage zero = { .range = { .start = (unsigned long)page, .len = SIZE } };
	char byte;

	while (read(0, &byte, 1) > 0)
		;
	if (ioctl(faults, UFFDIO_ZEROPAGE, &zero))
		exit(2);
	return unused;
}

int main(int argc, char **argv)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;
	long answer;

	if (argc != 2)
		return 2;
	faults = syscall(SYS_userfaultfd, O_CLOEXEC);
	page = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (unsigned long)page;
	range.range.len = SIZE;
	if (faults < 0 || page == MAP_FAILED || ioctl(faults, UFFDIO_API, &api) ||
	    ioctl(faults, UFFDIO_REGISTER, &range) || pthread_create(&thread, NULL, fill, NULL))
		return 2;
	answer = syscall(SYS_getcwd, page, strtoul(argv[1], NULL, 0));
	puts(answer < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}
