// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks that stay in functions that patches of the tests change.
 *
 *	straggle vfork		wait in vfork() for a child that pauses, until the standard input ends; print `parent`
 *	straggle clone		print what clone() with an exit signal of 63 answers: `ok`, or an errno by name
 *	straggle fuse DIR	as nobody, mount a file system of our own at DIR and pass a mapped file of it to write(eventfd),
 *				whose page is never read, until the standard input ends; print the errno
 *	straggle exit		print the id of a thread that has used sendfile() and exits with the name `at its end`; wait until the
 *				standard input ends
 *	straggle starved	as nobody, stay in one read() of /dev/zero with next to no CPU time; print the id of the thread; end
 *				when the standard input ends
 *	straggle epoll SLEEPERS SPINNERS
 *				threads that sleep in epoll_wait(), and threads that call it all the time; for each line of
 *				input print what calls of spinners have returned since, and when it ends, what the sleepers have,
 *				and how often one of them got EINTR at most
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAXEVENTS 4243
#define NOBODY 65534

static void wait_for_end(void)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
}

/* ---- vfork() and clone() ---- */

static int do_vfork(void)
{
	pid_t *child = mmap(NULL, sizeof(*child), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t watcher;

	if (child == MAP_FAILED)
		return 2;
	watcher = fork();
	if (watcher < 0)
		return 2;
	if (!watcher) {
		wait_for_end();
		kill(*child, SIGKILL);
		_exit(0);
	}
	if (!vfork()) {
		*child = getpid();
		for (;;)
			pause();
	}
	puts("parent");
	return 0;
}

static int do_clone(void)
{
	long pid;

	signal(63, SIG_IGN);
	pid = syscall(SYS_clone, 63UL, 0, 0, 0, 0);
	if (!pid)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, __WALL);
	puts(pid < 0 ? strerrorname_np(errno) : "ok");
	return 0;
}

/* ---- a file whose pages never come ---- */

static int fuse;

static void reply(const struct fuse_in_header *in, int error, const void *data, size_t size)
{
	char buffer[512] = {};
	struct fuse_out_header *out = (void *)buffer;

	out->len = sizeof(*out) + size;
	out->error = error;
	out->unique = in->unique;
	memcpy(out + 1, data, size);
	if (write(fuse, buffer, out->len) < 0)
		_exit(2);
}

static void *serve(void *unused)
{
	static char buffer[1 << 18];
	const struct fuse_in_header *in = (void *)buffer;
	struct fuse_attr attr = { .ino = 2, .size = 4096, .blocks = 8, .mode = S_IFREG | 0644, .nlink = 1, .blksize = 4096 };

	while (read(fuse, buffer, sizeof(buffer)) > 0) {
		switch (in->opcode) {
		case FUSE_INIT: {
			struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096 };

			reply(in, 0, &init, sizeof(init));
			break;
		}
		case FUSE_LOOKUP: {
			struct fuse_entry_out entry = { .nodeid = 2, .attr_valid = 1000, .entry_valid = 1000, .attr = attr };

			reply(in, 0, &entry, sizeof(entry));
			break;
		}
		case FUSE_GETATTR: {
			struct fuse_attr_out out = { .attr_valid = 1000, .attr = attr };

			if (in->nodeid == FUSE_ROOT_ID)
				out.attr.mode = S_IFDIR | 0755;
			reply(in, 0, &out, sizeof(out));
			break;
		}
		case FUSE_OPEN: {
			struct fuse_open_out out = { .fh = 1 };

			reply(in, 0, &out, sizeof(out));
			break;
		}
		case FUSE_READ:
			/* Never. */
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			reply(in, -ENOSYS, NULL, 0);
		}
	}
	return unused;
}

static void *abort_at_end(void *unused)
{
	wait_for_end();
	/* The connection ends with its last file; the one that serves holds it while it reads. */
	umount2(".", MNT_FORCE);
	return unused;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		exit(2);
	close(fd);
}

static int do_fuse(const char *dir)
{
	char options[64], path[4096];
	pthread_t thread;
	void *page;
	int fd, event;

	/* Whoever gives up privilege may not write his own maps without it. */
	if (setgid(NOBODY) || setuid(NOBODY) || prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return 2;
	put("/proc/self/setgroups", "deny");
	put("/proc/self/uid_map", "0 65534 1");
	put("/proc/self/gid_map", "0 65534 1");
	fuse = open("/dev/fuse", O_RDWR);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	if (fuse < 0)
		perror("/dev/fuse");
	if (fuse < 0 || mount("test", dir, "fuse", MS_NOSUID | MS_NODEV, options) || pthread_create(&thread, NULL, serve, NULL))
		return 2;
	if (chdir(dir) || pthread_create(&thread, NULL, abort_at_end, NULL))
		return 2;
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDONLY);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	event = eventfd(0, 0);
	if (fd < 0 || page == MAP_FAILED || event < 0)
		return 2;
	puts(syscall(SYS_write, event, page, 8) < 0 ? strerrorname_np(errno) : "ok");
	fflush(stdout);
	_exit(0);
}

/* ---- a thread that exits ---- */

static void *end_with_pipe(void *unused)
{
	int in = open("/proc/self/exe", O_RDONLY), out = open("/dev/null", O_WRONLY);

	/* From now on it has a pipe of its own, which is freed by the last that it does (do_exit(), kernel/exit.c). */
	if (in < 0 || out < 0 || sendfile(out, in, NULL, 1) != 1 || prctl(PR_SET_NAME, "at its end"))
		exit(2);
	printf("%d\n", gettid());
	fflush(stdout);
	return unused;
}

static int do_exit(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, end_with_pipe, NULL) || pthread_join(thread, NULL))
		return 2;
	wait_for_end();
	return 0;
}

/* ---- a thread that is in the kernel, does not sleep, and gets no CPU ---- */

/* What each read() has room for, in all (MAX_RW_COUNT, include/linux/fs.h): seconds of CPU time. */
#define PARTS 1024
#define PART (2 << 20)

static void *hog(void *unused)
{
	for (;;)
		;
	return unused;
}

static void *starve(void *unused)
{
	struct sched_param param = {};
	static struct iovec parts[PARTS];
	int i, zero = open("/dev/zero", O_RDONLY);
	void *part = mmap(NULL, PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (zero < 0 || part == MAP_FAILED)
		exit(2);
	for (i = 0; i < PARTS; i++)
		parts[i] = (struct iovec){ part, PART };
	printf("%d\n", gettid());
	fflush(stdout);
	if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &param))
		exit(2);
	while (readv(zero, parts, PARTS) > 0)
		;
	return unused;
}

static int do_starved(void)
{
	pthread_t thread;
	cpu_set_t last;
	int i;

	CPU_ZERO(&last);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
	if (setgid(NOBODY) || setuid(NOBODY))
		return 2;
	/* Not this thread, which is to see the end of its input. */
	for (i = 0; i < 4; i++)
		if (pthread_create(&thread, NULL, i ? hog : starve, NULL) ||
		    pthread_setaffinity_np(thread, sizeof(last), &last))
			return 2;
	wait_for_end();
	_exit(0);
}

/* ---- many threads ---- */

/* One that is never ready until the end, and one that always is. */
static int never, always;
static int never_event;
static long counts[4096], sleepers_got[4096];
static volatile int ended, interrupted;

static int wait_for_events(int fd)
{
	static __thread struct epoll_event events[MAXEVENTS];

	return syscall(SYS_epoll_wait, fd, events, MAXEVENTS, -1);
}

static void count(long *table, int result)
{
	__atomic_add_fetch(&table[result < 0 || result >= 4096 ? 4095 : result], 1, __ATOMIC_RELAXED);
}

static void *spin(void *unused)
{
	while (!ended)
		count(counts, wait_for_events(always));
	return unused;
}

static void *sleeper(void *unused)
{
	int result, times = 0;

	while ((result = wait_for_events(never)) < 0 && errno == EINTR)
		/* Lost if two do that at once, of which each will have its turn again. */
		if (++times > interrupted)
			interrupted = times;
	count(sleepers_got, result);
	return unused;
}

static int new_epoll(int event)
{
	struct epoll_event add = { .events = EPOLLIN };
	int fd = epoll_create1(0);

	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, event, &add))
		exit(2);
	return fd;
}

static void print(const char *what, long *table)
{
	int i;

	printf("%s", what);
	for (i = 0; i < 4096; i++)
		if (table[i])
			printf(" %d", i);
	printf("\n");
	fflush(stdout);
}

static int do_epoll(int sleepers, int spinners)
{
	pthread_t *threads = calloc(sleepers + spinners, sizeof(*threads));
	pthread_attr_t attr;
	uint64_t one = 1;
	int i, event;
	char byte;

	never_event = eventfd(0, 0);
	never = new_epoll(never_event);
	event = eventfd(1, 0);
	always = new_epoll(event);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 18);
	for (i = 0; i < sleepers + spinners; i++)
		if (pthread_create(&threads[i], &attr, i < sleepers ? sleeper : spin, NULL))
			return 2;
	while (read(0, &byte, 1) > 0) {
		print("spinners", counts);
		memset(counts, 0, sizeof(counts));
	}
	ended = 1;
	if (write(never_event, &one, sizeof(one)) != sizeof(one))
		return 2;
	for (i = 0; i < sleepers + spinners; i++)
		pthread_join(threads[i], NULL);
	print("spinners", counts);
	print("sleepers", sleepers_got);
	printf("interrupted %d\n", interrupted);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "vfork"))
		return do_vfork();
	if (argc == 2 && !strcmp(argv[1], "clone"))
		return do_clone();
	if (argc == 3 && !strcmp(argv[1], "fuse"))
		return do_fuse(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "exit"))
		return do_exit();
	if (argc == 2 && !strcmp(argv[1], "starved"))
		return do_starved();
	if (argc == 4 && !strcmp(argv[1], "epoll"))
		return do_epoll(atoi(argv[2]), atoi(argv[3]));
	return 2;
}
