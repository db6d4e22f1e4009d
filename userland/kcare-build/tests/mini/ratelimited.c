// SPDX-License-Identifier: GPL-2.0
//#Func: answer
//#Extern: say
// The states of messages that come and go cannot be told apart, and need not be.
#include "mini.h"

struct limit {
	int lock, interval, burst, left, missed, flags;
	unsigned long begin;
};

static noinline int allowed(struct limit *limit)
{
	return limit->left++ < limit->burst;
}

#define say_limited(text)                                                                          \
	do {                                                                                       \
		static struct limit _rs = { .interval = 5, .burst = 10 };                          \
		if (allowed(&_rs))                                                                 \
			say(text);                                                                 \
	} while (0)

int answer(int x)
{
#ifdef PATCHED
	if (x > 4)
		say_limited("more than four");
#endif
	if (x > 3)
		say_limited("more than three");
	if (x > 2)
		say_limited("more than two");
	return x;
}
ORC(answer);
