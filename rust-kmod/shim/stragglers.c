// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks that were inside code when it went out of use, and what each task sees meanwhile.
 *
 * A universe is the set of bodies that a task sees, named by the number of the level that they belong to; 0 is that of the
 * original ones. A straggler sees the one that it was in, all others see @now. A table says which stragglers there are,
 * and what each trampoline leads to in each universe; there is one that counts, @published. It is read without a lock, in
 * any context; a former one is freed after the grace periods that text has, because whoever reads it may be preempted.
 *
 * Writers are under kcare's own lock, or have stopped the machine. But a straggler may leave at any time: @gone says so,
 * is set once, and is never taken back.
 */

#include <linux/bsearch.h>
#include <linux/cpu.h>
#include <linux/cred.h>
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/timekeeping.h>
#include <linux/util_macros.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "ksyms.h"
#include "shim.h"

struct straggler {
	/* One for each table that has it, and one while @work is queued. */
	refcount_t ref;
	/* Compared, also when it is gone. A reference is held until @released. */
	struct task_struct *task;
	bool released;
	u64 universe;
	/* Sees what everybody sees. */
	bool gone;
	/* It has been woken. Who has not may have been about to fall asleep. */
	bool led;
	bool queued;
	struct callback_head work;
	/* Where it was, and when, in seconds since 1970. */
	u64 word;
	u64 since;
};

struct kcare_asks {
	u64 now;
	size_t count;
	/* By the task's hash, and from there on to the next empty one: a power of two of them, half of which stays empty. */
	size_t nr_slots;
	struct straggler **slots;
	/* Not used yet: none can be allocated in the stop. */
	struct straggler **spare;
	size_t nr_spare;
	/* Code of no universe but those of stragglers, and trampolines; ascending. */
	size_t nr_old;
	struct kcare_range *old;
	size_t nr_rows;
	/* Ascending by trampoline, then universe. */
	struct kcare_row rows[];
};

static struct straggler *no_straggler;
static struct kcare_asks nothing = { .nr_slots = 1, .slots = &no_straggler };
static struct kcare_asks *published = &nothing;

/* Each straggler of a table; @i counts the slots. */
#define for_each_straggler(straggler, i, asks) \
	for (i = 0; i < (asks)->nr_slots; i++) \
		for_each_if((straggler = (asks)->slots[i]))

/* In Rust: whether a task is outside of these ranges; it is current, or does not run. */
static bool (*is_outside)(struct task_struct *task, const struct kcare_range *ranges, size_t count);
/* In Rust: whether a task is in a page fault, which a signal does not end; its stack is held. */
static bool (*in_fault)(struct task_struct *task);

/* ---- what a task sees ---- */

static __always_inline size_t home_of(const struct kcare_asks *asks, const struct task_struct *task)
{
	return hash_ptr(task, 32) & (asks->nr_slots - 1);
}

/* The slot of a task, or the empty one where it would be. */
static __always_inline size_t slot_of(const struct kcare_asks *asks, const struct task_struct *task)
{
	size_t at = home_of(asks, task);

	while (asks->slots[at] && asks->slots[at]->task != task)
		at = (at + 1) & (asks->nr_slots - 1);
	return at;
}

static __always_inline struct straggler *find_straggler(const struct kcare_asks *asks, const struct task_struct *task)
{
	return asks->slots[slot_of(asks, task)];
}

static __always_inline int compare_row(const void *key, const void *elt)
{
	const struct kcare_row *a = key, *b = elt;

	if (a->trampoline != b->trampoline)
		return a->trampoline < b->trampoline ? -1 : 1;
	return a->universe < b->universe ? -1 : a->universe > b->universe;
}

/* Of the trampoline that calls behind itself at @at: where its jump to the original body leads (payload/trampoline.rs). */
static __always_inline u64 original_of(u64 at)
{
	return at - 5 + *(const s32 *)(at - 9);
}

/*
 * The body that a trampoline is to lead the current task to. In any context, NMI among them: nothing that is called could
 * be traced, and nothing is locked.
 */
u64 notrace kcare_body_of(u64 at)
{
	/* Pairs with the release in kcare_asks_publish(). */
	const struct kcare_asks *asks = smp_load_acquire(&published);
	struct kcare_row key = { .trampoline = at, .universe = asks->now };
	const struct kcare_row *row;
	const struct straggler *straggler;

	straggler = find_straggler(asks, current);
	if (unlikely(straggler) && !READ_ONCE(straggler->gone))
		key.universe = straggler->universe;
	row = __inline_bsearch(&key, asks->rows, asks->nr_rows, sizeof(*asks->rows), compare_row);
	return row ? row->body : original_of(at);
}

u64 kcare_ask_address(void)
{
	return (unsigned long)kcare_ask;
}

bool kcare_in_ask(u64 address)
{
	return address >= (unsigned long)kcare_ask && address < (unsigned long)kcare_ask_end;
}

/* ---- tables ---- */

static void put_straggler(struct straggler *straggler)
{
	if (!refcount_dec_and_test(&straggler->ref))
		return;
	if (!straggler->released)
		put_task_struct(straggler->task);
	kfree(straggler);
}

/* Lets go of a task that is a straggler no more; what is queued would keep this module from going, as it may for ever. */
static void release(struct straggler *straggler)
{
	if (straggler->released)
		return;
	if (READ_ONCE(straggler->queued) && ksym(task_work_cancel)(straggler->task, &straggler->work)) {
		straggler->queued = false;
		put_straggler(straggler);
		module_put(THIS_MODULE);
	}
	straggler->released = true;
	put_task_struct(straggler->task);
}

void kcare_asks_free(struct kcare_asks *asks)
{
	struct straggler *straggler;
	size_t i;

	if (!asks || asks == &nothing)
		return;
	for_each_straggler(straggler, i, asks) {
		if (READ_ONCE(straggler->gone))
			release(straggler);
		put_straggler(straggler);
	}
	for (i = 0; i < asks->nr_spare; i++)
		kfree(asks->spare[i]);
	kvfree(asks->slots);
	kvfree(asks->spare);
	kvfree(asks->old);
	kvfree(asks);
}

struct kcare_asks *kcare_asks_new(const struct kcare_row *rows, size_t nr_rows, const struct kcare_range *old,
				  size_t nr_old, size_t room)
{
	struct kcare_asks *asks = kvzalloc(struct_size(asks, rows, nr_rows), GFP_KERNEL);
	size_t nr_slots = roundup_pow_of_two(2 * (room + published->count + 1));

	if (!asks)
		return NULL;
	asks->nr_rows = nr_rows;
	if (nr_rows)
		memcpy(asks->rows, rows, array_size(nr_rows, sizeof(*rows)));
	asks->slots = kvcalloc(nr_slots, sizeof(*asks->slots), GFP_KERNEL);
	asks->spare = kvcalloc(room + 1, sizeof(*asks->spare), GFP_KERNEL);
	asks->old = kvcalloc(nr_old + 1, sizeof(*asks->old), GFP_KERNEL);
	if (!asks->slots || !asks->spare || !asks->old)
		goto fail;
	asks->nr_slots = nr_slots;
	asks->nr_old = nr_old;
	if (nr_old)
		memcpy(asks->old, old, array_size(nr_old, sizeof(*old)));
	for (; asks->nr_spare < room; asks->nr_spare++) {
		asks->spare[asks->nr_spare] = kzalloc(sizeof(struct straggler), GFP_KERNEL);
		if (!asks->spare[asks->nr_spare])
			goto fail;
	}
	return asks;
fail:
	kcare_asks_free(asks);
	return NULL;
}

static void insert(struct kcare_asks *asks, struct straggler *straggler)
{
	asks->slots[slot_of(asks, straggler->task)] = straggler;
	asks->count++;
}

void kcare_asks_inherit(struct kcare_asks *asks, u64 but)
{
	struct straggler *straggler;
	size_t i;

	for_each_straggler(straggler, i, published) {
		if (READ_ONCE(straggler->gone) || straggler->universe == but)
			continue;
		refcount_inc(&straggler->ref);
		insert(asks, straggler);
	}
}

/* The straggler of a task that is published, if it has not gone. */
static struct straggler *find_published(const struct task_struct *task)
{
	struct straggler *straggler = find_straggler(published, task);

	return straggler && !READ_ONCE(straggler->gone) ? straggler : NULL;
}

/* Empties a slot, and closes the gap for those that were put behind it because it was taken. */
static void empty_slot(struct kcare_asks *asks, size_t gap)
{
	size_t mask = asks->nr_slots - 1, at = gap;

	for (;;) {
		at = (at + 1) & mask;
		if (!asks->slots[at])
			break;
		/* It is farther from its home than from the gap, or as far. */
		if (((at - home_of(asks, asks->slots[at]->task)) & mask) >= ((at - gap) & mask)) {
			asks->slots[gap] = asks->slots[at];
			gap = at;
		}
	}
	asks->slots[gap] = NULL;
	asks->count--;
}

/* Takes a task out that is in @asks; it is no straggler of before, or has gone. */
static void forget(struct kcare_asks *asks, const struct task_struct *task)
{
	size_t at = slot_of(asks, task);
	struct straggler *straggler = asks->slots[at];

	if (!straggler)
		return;
	empty_slot(asks, at);
	if (straggler == find_straggler(published, task)) {
		/* @published has it, too. */
		refcount_dec(&straggler->ref);
	} else {
		/* The visit holds the task, too. */
		put_task_struct(straggler->task);
		asks->spare[asks->nr_spare++] = straggler;
	}
}

bool kcare_asks_add(struct kcare_asks *asks, struct task_struct *task, u64 universe, u64 word)
{
	struct straggler *straggler;

	/* It stays what it is, or begins to see what everybody sees. */
	if (find_published(task))
		return true;
	forget(asks, task);
	if (!asks->nr_spare)
		return false;
	straggler = asks->spare[--asks->nr_spare];
	refcount_set(&straggler->ref, 1);
	straggler->task = get_task_struct(task);
	straggler->universe = universe;
	straggler->word = word;
	straggler->since = ktime_get_real_seconds();
	insert(asks, straggler);
	return true;
}

void kcare_asks_drop(struct kcare_asks *asks, const struct task_struct *task)
{
	/* Whether those that are published have left is told by other ranges. */
	if (!find_published(task))
		forget(asks, task);
}

size_t kcare_asks_count(const struct kcare_asks *asks)
{
	return asks->count;
}

/* Has a user task take itself off on its way to user space. */
static void ask_to_leave(struct straggler *straggler);

struct kcare_asks *kcare_asks_publish(struct kcare_asks *asks, u64 now)
{
	struct kcare_asks *former = published;
	struct straggler *straggler;
	size_t i;

	asks->now = now;
	/* Pairs with the acquire in kcare_body_of(). */
	smp_store_release(&published, asks);
	for_each_straggler(straggler, i, former)
		if (straggler->universe == now)
			WRITE_ONCE(straggler->gone, true);
	/* Now, so that nobody gets to user space and back with what it saw. */
	for_each_straggler(straggler, i, asks)
		if (!READ_ONCE(straggler->gone))
			ask_to_leave(straggler);
	return former;
}

struct kcare_asks *kcare_asks_retract(void)
{
	struct kcare_asks *former = published;

	smp_store_release(&published, &nothing);
	return former == &nothing ? NULL : former;
}

size_t kcare_asks_left(void)
{
	struct straggler *straggler;
	size_t i, count = 0;

	for_each_straggler(straggler, i, published)
		if (!READ_ONCE(straggler->gone))
			count++;
	return count;
}

bool kcare_asks_straggles(struct task_struct *task)
{
	return find_published(task);
}

void kcare_asks_visit(void (*visit)(void *ctx, const struct kcare_straggler *info), void *ctx)
{
	struct straggler *straggler;
	size_t i;

	for_each_straggler(straggler, i, published) {
		struct kcare_straggler info = {
			.universe = straggler->universe,
			.word = straggler->word,
			.since = straggler->since,
		};

		if (READ_ONCE(straggler->gone))
			continue;
		info.pid = straggler->task->pid;
		rcu_read_lock();
		info.uid = from_kuid(&init_user_ns, __task_cred(straggler->task)->uid);
		rcu_read_unlock();
		kcare_task_comm(straggler->task, info.comm);
		visit(ctx, &info);
	}
}

/* ---- the way out ---- */

/* When a task is asked again that ran its work where it was inside, in milliseconds. */
#define AGAIN_MS 10

static void *later_ctx;
static void (*later)(void *ctx);

static void do_later(struct work_struct *work)
{
	later(later_ctx);
}

static DECLARE_DELAYED_WORK(later_work, do_later);

void kcare_later_watch(void *ctx, void (*fn)(void *ctx),
		       bool (*outside)(struct task_struct *task, const struct kcare_range *ranges, size_t count),
		       bool (*fault)(struct task_struct *task))
{
	later_ctx = ctx;
	later = fn;
	is_outside = outside;
	in_fault = fault;
}

void kcare_later_unwatch(void)
{
	cancel_delayed_work_sync(&later_work);
	later = NULL;
}

void kcare_later(unsigned int ms)
{
	unsigned long delay = msecs_to_jiffies(ms);

	/* The expiry of one that is pending is read without a lock: at worst it is called once more, or a look later. */
	if (!delayed_work_pending(&later_work) || time_before(jiffies + delay, READ_ONCE(later_work.timer.expires)))
		mod_delayed_work(system_dfl_wq, &later_work, delay);
}

/* It sees what everybody sees from here on; it is outside, and cannot get inside before this is done. */
static void take_off(struct straggler *straggler)
{
	WRITE_ONCE(straggler->gone, true);
}

/* Runs in a straggler on its way to user space, or in its exit; but io_uring runs such work where it waits, too. */
static void leave(struct callback_head *work)
{
	struct straggler *straggler = container_of(work, struct straggler, work);
	/* Pairs with the release in kcare_asks_publish(). Stays, as nothing sleeps here. */
	const struct kcare_asks *asks = smp_load_acquire(&published);

	if (!READ_ONCE(straggler->gone)) {
		bool outside = is_outside(current, asks->old, asks->nr_old);

		if (outside)
			take_off(straggler);
		/* If not, it is asked again soon: not from here, which would not end. */
		kcare_later(outside ? 0 : AGAIN_MS);
	}
	/* Pairs with the acquire in ask_to_leave(). */
	smp_store_release(&straggler->queued, false);
	put_straggler(straggler);
	/* kcare_stragglers_exit() waits for the rest of this function. */
	module_put(THIS_MODULE);
}

static bool stays_in_kernel(const struct task_struct *task)
{
	return task->flags & (PF_KTHREAD | PF_USER_WORKER | PF_IO_WORKER);
}

bool kcare_task_wakeable(struct task_struct *task, bool fault)
{
	return !fault && !stays_in_kernel(task) && READ_ONCE(task->__state) & TASK_INTERRUPTIBLE;
}

static void ask_to_leave(struct straggler *straggler)
{
	/* Pairs with the release in leave(). */
	if (stays_in_kernel(straggler->task) || smp_load_acquire(&straggler->queued))
		return;
	straggler->queued = true;
	init_task_work(&straggler->work, leave);
	refcount_inc(&straggler->ref);
	__module_get(THIS_MODULE);
	/* It has exited, but for what a look tells. */
	if (task_work_add(straggler->task, &straggler->work, TWA_RESUME)) {
		straggler->queued = false;
		put_straggler(straggler);
		module_put(THIS_MODULE);
	}
}

/* Whether a signal ends what a user task sleeps in. */
static bool is_led_out(struct task_struct *task)
{
	bool fault;

	if (!kcare_task_hold(task))
		return false;
	fault = in_fault(task);
	kcare_task_release(task);
	return kcare_task_wakeable(task, fault);
}

size_t kcare_asks_lead_out(void)
{
	struct straggler *straggler;
	size_t i, woken = 0;

	/* Nobody is added any more. */
	while (published->nr_spare)
		kfree(published->spare[--published->nr_spare]);

	for_each_straggler(straggler, i, published) {
		struct task_struct *task = straggler->task;

		if (READ_ONCE(straggler->gone) || straggler->led || is_idle_task(task))
			continue;
		if (!stays_in_kernel(task)) {
			if (!READ_ONCE(straggler->queued) || !is_led_out(task))
				continue;
			/* As set_notify_signal(): what it waits in ends as by a signal, and the work runs. */
			set_tsk_thread_flag(task, TIF_NOTIFY_SIGNAL);
			straggler->led = true;
		}
		if (ksym(wake_up_state)(task, TASK_INTERRUPTIBLE)) {
			straggler->led = true;
			woken++;
		}
	}
	return woken;
}

/* With the task's runqueue locked, or while it cannot run. */
static int look(struct task_struct *task, void *unused)
{
	if (READ_ONCE(task->on_cpu))
		return -EBUSY;
	if (READ_ONCE(task->__state) == TASK_DEAD)
		return 0;
	return is_outside(task, published->old, published->nr_old) ? 0 : -EAGAIN;
}

static int look_and_take_off(struct task_struct *task, void *arg)
{
	int err = look(task, NULL);

	if (!err)
		take_off(arg);
	return err;
}

/* On the CPU of an idle task, which does not run then. */
static long look_at_idle(void *arg)
{
	struct straggler *straggler = arg;
	long err = -EBUSY;

	preempt_disable();
	if (task_cpu(straggler->task) == smp_processor_id())
		err = look_and_take_off(straggler->task, straggler);
	preempt_enable();
	return err;
}

static int visit_idle(struct straggler *straggler)
{
	int cpu = task_cpu(straggler->task);

	guard(cpus_read_lock)();
	if (cpu_online(cpu))
		return work_on_cpu(cpu, look_at_idle, straggler);
	/* It begins anew when the CPU comes (start_secondary()). */
	take_off(straggler);
	return 0;
}

size_t kcare_asks_look(void)
{
	struct straggler *straggler;
	size_t i, left = 0;

	for_each_straggler(straggler, i, published) {
		if (!READ_ONCE(straggler->gone)) {
			int err;

			if (is_idle_task(straggler->task))
				err = visit_idle(straggler);
			else
				err = ksym(task_call_func)(straggler->task, look_and_take_off, straggler);
			if (err) {
				left++;
				ask_to_leave(straggler);
			}
		}
		if (READ_ONCE(straggler->gone))
			release(straggler);
		cond_resched();
	}
	return left;
}

void kcare_stragglers_exit(void)
{
	struct kcare_asks *asks = published;

	published = &nothing;
	/* A task that has given its reference to the module back is in leave() until it is in user space. */
	synchronize_rcu_tasks();
	kcare_asks_free(asks);
}
