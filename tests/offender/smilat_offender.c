// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Keeps interrupts, preemption or bottom halves off for a given time, from a given context: what the tests of
 * `smilat irqsoff` are to find.
 *
 * echo "CONTEXT WHAT MICROSECONDS CPU" > /sys/module/smilat_offender/parameters/offend
 *
 * CONTEXT: process, timer, irqtimer (its callback runs with interrupts off throughout), hrtimer, tasklet, call (asked for
 * by another CPU). WHAT: irqs, preempt, bh, nothing; many (short sections with interrupts and preemption off, one after the
 * other, with chances to preempt between); or irqs and preempt by way of functions that are to be exempt
 * (exempt-irqs, exempt-preempt). Returns when it is over; the file then holds for how many ns it was off.
 */
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

static u64 length_ns;
static u64 took_ns;
static char what[24];
static DECLARE_COMPLETION(over);

static noinline void smilat_wait(u64 ns)
{
	u64 begin = ktime_get_mono_fast_ns();

	while (ktime_get_mono_fast_ns() - begin < ns)
		cpu_relax();
	took_ns += ktime_get_mono_fast_ns() - begin;
}

static noinline void smilat_irqs_off(u64 ns)
{
	unsigned long flags;

	local_irq_save(flags);
	smilat_wait(ns);
	local_irq_restore(flags);
	barrier();
}

static noinline void smilat_preempt_off(u64 ns)
{
	preempt_disable();
	smilat_wait(ns);
	preempt_enable();
	barrier();
}

static noinline void smilat_bh_off(u64 ns)
{
	local_bh_disable();
	smilat_wait(ns);
	local_bh_enable();
	barrier();
}

static DEFINE_RAW_SPINLOCK(lock);

static noinline void smilat_many_sections(u64 ns)
{
	u64 begin = ktime_get_mono_fast_ns();

	while (ktime_get_mono_fast_ns() - begin < ns) {
		raw_spin_lock_irq(&lock);
		smilat_wait(200 * NSEC_PER_USEC);
		raw_spin_unlock_irq(&lock);
		cond_resched();
	}
}

static noinline void smilat_exempt_irqs_off(u64 ns)
{
	smilat_irqs_off(ns);
	barrier();
}

static noinline void smilat_exempt_inner(u64 ns)
{
	smilat_wait(ns);
	barrier();
}

/* Half of the section in one exempt function within another, half after the inner one has ended. */
static noinline void smilat_exempt_outer(u64 ns)
{
	smilat_exempt_inner(ns / 2);
	smilat_wait(ns / 2);
	barrier();
}

static noinline void smilat_with_exempt_part(u64 ns)
{
	preempt_disable();
	smilat_exempt_outer(ns);
	preempt_enable();
	barrier();
}

static noinline void smilat_offend(void)
{
	if (!strcmp(what, "irqs"))
		smilat_irqs_off(length_ns);
	else if (!strcmp(what, "preempt"))
		smilat_preempt_off(length_ns);
	else if (!strcmp(what, "bh"))
		smilat_bh_off(length_ns);
	else if (!strcmp(what, "nothing"))
		smilat_wait(length_ns);
	else if (!strcmp(what, "many"))
		smilat_many_sections(length_ns);
	else if (!strcmp(what, "exempt-irqs"))
		smilat_exempt_irqs_off(length_ns);
	else if (!strcmp(what, "exempt-preempt"))
		smilat_with_exempt_part(length_ns);
	barrier();
}

static void smilat_timer_callback(struct timer_list *timer)
{
	smilat_offend();
	complete(&over);
}

static DEFINE_TIMER(timer, smilat_timer_callback);
static struct timer_list irqsafe_timer;

static enum hrtimer_restart smilat_hrtimer_callback(struct hrtimer *timer)
{
	smilat_offend();
	complete(&over);
	return HRTIMER_NORESTART;
}

static struct hrtimer hrtimer;

static void smilat_tasklet_callback(struct tasklet_struct *tasklet)
{
	smilat_offend();
	complete(&over);
}

static DECLARE_TASKLET(tasklet, smilat_tasklet_callback);

static void smilat_call_callback(void *info)
{
	smilat_offend();
	complete(&over);
}

/* Runs on the CPU that is to be offended. */
static long offend_here(void *context)
{
	reinit_completion(&over);
	if (!strcmp(context, "process")) {
		smilat_offend();
		return 0;
	}
	if (!strcmp(context, "timer")) {
		timer.expires = jiffies + 2;
		add_timer_on(&timer, raw_smp_processor_id());
	} else if (!strcmp(context, "irqtimer")) {
		irqsafe_timer.expires = jiffies + 2;
		add_timer_on(&irqsafe_timer, raw_smp_processor_id());
	} else if (!strcmp(context, "hrtimer")) {
		hrtimer_start(&hrtimer, ms_to_ktime(5), HRTIMER_MODE_REL_PINNED_HARD);
	} else if (!strcmp(context, "tasklet")) {
		tasklet_schedule(&tasklet);
	} else {
		return -EINVAL;
	}
	wait_for_completion(&over);
	return 0;
}

static int set_offend(const char *value, const struct kernel_param *param)
{
	char context[16];
	unsigned int us, cpu;

	if (sscanf(value, "%15s %23s %u %u", context, what, &us, &cpu) != 4)
		return -EINVAL;
	if (us > 1000000 || !cpu_online(cpu))
		return -ERANGE;
	length_ns = us * 1000ull;
	took_ns = 0;
	if (!strcmp(context, "call")) {
		if (cpu == raw_smp_processor_id())
			return -EINVAL;
		reinit_completion(&over);
		return smp_call_function_single(cpu, smilat_call_callback, NULL, 1);
	}
	return work_on_cpu(cpu, offend_here, context);
}

static int get_took(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%llu\n", took_ns);
}

static const struct kernel_param_ops ops = { .set = set_offend, .get = get_took };
module_param_cb(offend, &ops, NULL, 0600);

static int __init smilat_init(void)
{
	timer_setup(&irqsafe_timer, smilat_timer_callback, TIMER_IRQSAFE);
	hrtimer_init(&hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	hrtimer.function = smilat_hrtimer_callback;
	return 0;
}

static void __exit smilat_exit(void)
{
	del_timer_sync(&timer);
	del_timer_sync(&irqsafe_timer);
	hrtimer_cancel(&hrtimer);
	tasklet_kill(&tasklet);
}

module_init(smilat_init);
module_exit(smilat_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Keeps interrupts, preemption or bottom halves off, for tests");
