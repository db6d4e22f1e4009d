// SPDX-License-Identifier: GPL-2.0
/*
 * Push payloads through the ioctl itself, and say what the kernel answered: one line for each push,
 *
 *	NAME <tab> ERRNO <tab> REASON <tab> PLACE <tab> TEXT
 *
 * with ERRNO and REASON by name ("ok" for success) and PLACE as error.rs prints it ("-" for none). kcare-push
 * cannot be used for this: it looks at the file first, explains the answer, and takes a process for each payload.
 *
 * The numbers are those of rust-kmod/payload/uapi.rs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kcare.h"

static int device;

/* Place::raw() and its Display. */
static const char *place_name(uint64_t raw)
{
	static const char *const tables[] = { "?", "manifest", "objects", "funcs", "externs", "fixes", "preimages", "strings",
		"callbacks", "states" };
	static char name[64];
	unsigned long long value = raw & ((1ULL << 56) - 1);
	unsigned int upper = value >> 32, lower = value & 0xffffffff;
	const char *table = tables[upper < sizeof(tables) / sizeof(tables[0]) ? upper : 0];

	switch (raw >> 56) {
	case 0:
		return value ? "?" : "-";
	case 1:
		snprintf(name, sizeof(name), "offset 0x%llx", value);
		break;
	case 2:
		snprintf(name, sizeof(name), "section %llu", value);
		break;
	case 3:
		snprintf(name, sizeof(name), "symbol %llu", value);
		break;
	case 4:
		snprintf(name, sizeof(name), "relocation %u of section %u", lower, upper);
		break;
	case 5:
		snprintf(name, sizeof(name), upper == 1 || upper == 6 || upper == 7 ? "%s at 0x%x" : "%s[%u]", table, lower);
		break;
	default:
		return "?";
	}
	return name;
}

static void print(const char *name, struct answer a)
{
	printf("%s\t%s\t%s\t%s\t%.*s\n", name, a.err ? strerrorname_np(a.err) : "ok", reason_name(a.reason),
	       place_name(a.place), (int)a.text_len, answer_text);
}

static void info(void)
{
	struct info i;

	if (ioctl(device, INFO, &i))
		die("info");
	printf("abi %u\nstate %u\nlevel %u\nprevious %u\nfunctions %u\nfixes %u\nfailures %llu\nmemory %llu\nrelease %.64s\n"
	       "description %.256s\nbuild-id ",
	       i.abi, i.state, i.level, i.previous, i.nr_funcs, i.nr_fixes, (unsigned long long)i.failures,
	       (unsigned long long)i.memory, i.release, i.description);
	for (size_t n = 0; n < sizeof(i.build_id); n++)
		printf("%02x", i.build_id[n]);
	printf("\n");
}

/*
 * One bit is wrong in each of COUNT copies. The bits are spread evenly over the bytes from FROM to TO; 8 for each byte
 * are all of them.
 */
static void flips(const char *path, unsigned long count, size_t from, size_t to)
{
	char name[32];
	size_t size;
	unsigned char *data = slurp(path, &size);

	if (!to || to > size)
		to = size;
	for (unsigned long i = 0; i < count && from < to; i++) {
		unsigned long long bits = 8ULL * (to - from);
		size_t bit = count > 1 ? i * (bits - 1) / (count - 1) : 0;
		size_t at = from + bit / 8;
		unsigned char mask = 1u << bit % 8;

		data[at] ^= mask;
		snprintf(name, sizeof(name), "%zu^0x%02x", at, mask);
		print(name, apply(device, data, size, 0));
		data[at] ^= mask;
	}
	free(data);
}

static int usage(void)
{
	fprintf(stderr, "Usage: kpush apply|revoke [-f FLAGS] [-n TIMES] FILE...\n"
			"       kpush flips FILE COUNT [FROM [TO]]\n"
			"       kpush unload|rollback [-f FLAGS]\n"
			"       kpush null SIZE             a payload at an address that cannot be read\n"
			"       kpush command NUMBER        an ioctl of any number\n"
			"       kpush info\n"
			"       kpush hold                  open the device until stdin ends\n");
	return 2;
}

int main(int argc, char **argv)
{
	unsigned long flags = 0, times = 1;
	const char *what = argc > 1 ? argv[1] : "";
	int opt;

	optind = 2;
	while ((opt = getopt(argc, argv, "f:n:")) != -1) {
		if (opt == 'f')
			flags = strtoul(optarg, NULL, 0);
		else if (opt == 'n')
			times = strtoul(optarg, NULL, 0);
		else
			return usage();
	}
	device = open("/dev/kcare", O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("/dev/kcare");

	if ((!strcmp(what, "apply") || !strcmp(what, "revoke")) && argc > optind) {
		unsigned long request = what[0] == 'a' ? APPLY : REVOKE;

		for (; optind < argc; optind++) {
			const char *name = strrchr(argv[optind], '/');
			size_t size;
			void *data = slurp(argv[optind], &size);

			for (unsigned long i = 0; i < times; i++)
				print(name ? name + 1 : argv[optind], give(device, request, data, size, flags));
			free(data);
		}
	} else if (!strcmp(what, "flips") && argc >= optind + 2 && argc <= optind + 4) {
		flips(argv[optind], strtoul(argv[optind + 1], NULL, 0),
		      argc > optind + 2 ? strtoul(argv[optind + 2], NULL, 0) : 0,
		      argc > optind + 3 ? strtoul(argv[optind + 3], NULL, 0) : 0);
	} else if (!strcmp(what, "unload") && argc == optind) {
		print("unload", back(device, UNLOAD, flags));
	} else if (!strcmp(what, "rollback") && argc == optind) {
		print("rollback", back(device, ROLLBACK, flags));
	} else if (!strcmp(what, "null") && argc == optind + 1) {
		print("null", apply(device, NULL, strtoul(argv[optind], NULL, 0), flags));
	} else if (!strcmp(what, "command") && argc == optind + 1) {
		struct answer a = { .err = ioctl(device, strtoul(argv[optind], NULL, 0), 0) ? errno : 0 };

		print("command", a);
	} else if (!strcmp(what, "info") && argc == optind) {
		info();
	} else if (!strcmp(what, "hold") && argc == optind) {
		char c;

		puts("open");
		fflush(stdout);
		while (read(0, &c, 1) > 0)
			;
	} else {
		return usage();
	}
	return 0;
}
