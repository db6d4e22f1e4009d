/* SPDX-License-Identifier: GPL-2.0 */
/* The requests of /dev/kcare, as in rust-kmod/payload/uapi.rs, and the answers, which tests/run takes from error.rs. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

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
