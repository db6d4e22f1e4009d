/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs share: the requests of /dev/kcare, as in rust-kmod/payload/uapi.rs, how they are made, the answers,
 * which tests/run takes from error.rs, and how a payload is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct apply {
	uint64_t data, size;
	uint32_t flags, reason;
	uint64_t place, text;
	uint32_t text_size, text_len;
};

struct unload {
	uint32_t flags, reason;
	uint64_t place, text;
	uint32_t text_size, text_len;
};

struct info {
	uint32_t abi, state, level, nr_funcs, nr_fixes, previous;
	uint64_t build_time, applied_time, stop_last, stop_max, memory, failures;
	uint8_t build_id[20], pad[4];
	char release[64], description[256];
};

struct history {
	uint64_t events;
	uint32_t count, reserved;
	uint64_t total;
};

_Static_assert(sizeof(struct apply) == 48 && sizeof(struct unload) == 32 && sizeof(struct info) == 416 &&
	       sizeof(struct history) == 24, "as in uapi.rs");

#define APPLY _IOWR('k', 0, struct apply)
#define UNLOAD _IOWR('k', 1, struct unload)
#define INFO _IOWR('k', 2, struct info)
#define ROLLBACK _IOWR('k', 3, struct unload)
#define HISTORY _IOWR('k', 4, struct history)
#define REVOKE _IOWR('k', 6, struct apply)
/* Flags of apply. */
#define DOWNGRADE 1
#define DRY_RUN 2

static inline const char *reason_name(uint32_t number)
{
	static const struct {
		uint32_t number;
		const char *name;
	} reasons[] = {
#include "reasons.h"
	};
	static char unknown[32];

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].number == number)
			return reasons[i].name;
	snprintf(unknown, sizeof(unknown), "unknown-%u", number);
	return number ? unknown : "ok";
}

static inline void die(const char *what)
{
	perror(what);
	exit(2);
}

/* What the kernel said: errno and the reason, 0 for success, and the text in answer_text. */
struct answer {
	int err;
	uint32_t reason;
	uint64_t place;
	uint32_t text_len;
};

static char answer_text[4096];

/* APPLY and REVOKE. */
static inline struct answer give(int device, unsigned long request, const void *data, size_t size, uint32_t flags)
{
	struct apply a = {
		.data = (uintptr_t)data, .size = size, .flags = flags,
		.text = (uintptr_t)answer_text, .text_size = sizeof(answer_text),
	};
	int err;

	answer_text[0] = 0;
	err = ioctl(device, request, &a) ? errno : 0;
	return (struct answer){ err, a.reason, a.place, a.text_len };
}

static inline struct answer apply(int device, const void *data, size_t size, uint32_t flags)
{
	return give(device, APPLY, data, size, flags);
}

/* UNLOAD and ROLLBACK. */
static inline struct answer back(int device, unsigned long request, uint32_t flags)
{
	struct unload u = { .flags = flags, .text = (uintptr_t)answer_text, .text_size = sizeof(answer_text) };
	int err;

	answer_text[0] = 0;
	err = ioctl(device, request, &u) ? errno : 0;
	return (struct answer){ err, u.reason, u.place, u.text_len };
}

/* All of a file. */
static inline unsigned char *slurp(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	unsigned char *data;
	ssize_t got = 0, n;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	/* One byte more, so that an empty file has an address too. */
	data = malloc(st.st_size + 1);
	while (data && got < st.st_size && (n = read(fd, data + got, st.st_size - got)) > 0)
		got += n;
	if (!data || got != st.st_size)
		die(path);
	close(fd);
	*size = got;
	return data;
}
