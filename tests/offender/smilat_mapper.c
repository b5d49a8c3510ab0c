// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Maps and unmaps for a device behind the IOMMU in ways whose counts are known: what the tests of `smilat iommu` are to
 * find. The device is QEMU's `edu` on a root bus, which no driver has.
 *
 * echo COMMAND > /sys/module/smilat_mapper/parameters/command
 *
 *   attach               makes a domain of its own and attaches the device to it
 *   detach               gives all of that back
 *   map BYTES            maps, after all that is mapped
 *   at IOVA BYTES        maps there
 *   unmap                unmaps what was mapped last, in one
 *   leak BYTES N         maps N times
 *   free                 unmaps all that is mapped, each mapping in one
 *   whole BYTES N        maps and unmaps in one, N times
 *   pieces BYTES PIECE N maps in one and unmaps piece by piece, N times; all of it in pages of 4 KiB
 *   super BYTES PIECE N  the same, but in superpages of 2 MiB as far as BYTES allows
 *   merged BYTES N       maps N mappings that follow one upon the other, and unmaps all of them in one
 *   mmio                 maps the device's first BAR
 *   times N BYTES        as `whole`, but timed
 *   spin MS              maps and unmaps a page for so long, without giving the CPU away
 *
 * BYTES are at most 4 MiB. The file then holds what the command did: maps, bytes of these, unmaps, bytes that were asked of
 * these, bytes that the kernel said were unmapped, and for `times` and `spin` the time in ns.
 */
#include <linux/iommu.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pci.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/version.h>

#define EDU_VENDOR 0x1234
#define EDU_DEVICE 0x11e8

/* Where mappings begin that stay until they are asked to go, and where those begin that do not. Both above 4 GiB, where
 * nothing is reserved, and on a superpage's bound. */
#define LASTING 0x200000000ul
#define PASSING 0x100000000ul

/* The most memory that the allocator gives in one. */
#define MOST (4ul << 20)
#define MAX_MAPPINGS 100000

/* From 6.3 on, a map is told how to allocate. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define smilat_iommu_map(domain, iova, paddr, size, prot, gfp) iommu_map(domain, iova, paddr, size, prot, gfp)
#else
#define smilat_iommu_map(domain, iova, paddr, size, prot, gfp)               \
	((gfp) == GFP_ATOMIC ? iommu_map_atomic(domain, iova, paddr, size, prot) \
			     : iommu_map(domain, iova, paddr, size, prot))
#endif

static struct pci_dev *edu;
static struct iommu_domain *domain;
/* Memory that is mapped; no device ever accesses it. */
static struct page *pages;
static phys_addr_t memory;

/* What is mapped to stay. */
static struct mapping {
	unsigned long iova;
	unsigned long bytes;
} *mappings;
static unsigned int mapped;
static unsigned long next_iova;

static struct {
	u64 maps, map_bytes, unmaps, asked_bytes, unmap_bytes, ns;
} done;

static noinline int smilat_map(unsigned long iova, phys_addr_t paddr, unsigned long bytes, int prot, gfp_t gfp)
{
	int error = smilat_iommu_map(domain, iova, paddr, bytes, prot, gfp);

	if (error)
		return error;
	done.maps++;
	done.map_bytes += bytes;
	return 0;
}

static noinline void smilat_unmap(unsigned long iova, unsigned long bytes)
{
	size_t unmapped = iommu_unmap(domain, iova, bytes);

	done.unmaps++;
	done.asked_bytes += bytes;
	done.unmap_bytes += unmapped;
}

static int map_at(unsigned long iova, phys_addr_t paddr, unsigned long bytes, int prot)
{
	int error;

	if (mapped == MAX_MAPPINGS)
		return -ENOSPC;
	error = smilat_map(iova, paddr, bytes, prot, GFP_KERNEL);
	if (error)
		return error;
	mappings[mapped].iova = iova;
	mappings[mapped].bytes = bytes;
	mapped++;
	return 0;
}

/* Addresses are used once. */
static int map_lasting(phys_addr_t paddr, unsigned long bytes, int prot)
{
	int error = map_at(next_iova, paddr, bytes, prot);

	if (!error)
		next_iova += bytes;
	return error;
}

static int unmap_last(void)
{
	if (!mapped)
		return -ENOENT;
	mapped--;
	smilat_unmap(mappings[mapped].iova, mappings[mapped].bytes);
	return 0;
}

static int leak(unsigned long bytes, unsigned int times)
{
	int error = 0;

	while (times-- && !error) {
		error = map_lasting(memory, bytes, IOMMU_READ | IOMMU_WRITE);
		cond_resched();
	}
	return error;
}

static void free_all(void)
{
	while (!unmap_last())
		cond_resched();
}

/* Memory that begins on no superpage's bound is mapped in small pages. */
static int pieces(unsigned long iova, unsigned long bytes, unsigned long piece, unsigned int times)
{
	unsigned long at;
	int error;

	while (times--) {
		error = smilat_map(iova, memory, bytes, IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
		if (error)
			return error;
		for (at = 0; at < bytes; at += piece)
			smilat_unmap(iova + at, min(piece, bytes - at));
		cond_resched();
	}
	return 0;
}

static int merged(unsigned long bytes, unsigned int times)
{
	unsigned int number;
	int error;

	for (number = 0; number < times; number++) {
		error = smilat_map(PASSING + number * bytes, memory, bytes, IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
		if (error)
			return error;
	}
	smilat_unmap(PASSING, bytes * times);
	return 0;
}

static int timed(unsigned int times, unsigned long bytes)
{
	u64 begin = ktime_get_mono_fast_ns();
	unsigned int number;
	int error;

	for (number = 0; number < times; number++) {
		error = smilat_map(PASSING, memory, bytes, IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
		if (error)
			return error;
		smilat_unmap(PASSING, bytes);
		if (number % 256 == 255)
			cond_resched();
	}
	done.ns = ktime_get_mono_fast_ns() - begin;
	return 0;
}

/* With PREEMPT_RT, unmapping takes locks that may sleep: there the scheduler takes the CPU when it wants it. */
static noinline int smilat_spin(u64 ns)
{
	u64 begin = ktime_get_mono_fast_ns();
	int error = 0;

	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		preempt_disable();
	while (!error && ktime_get_mono_fast_ns() - begin < ns) {
		error = smilat_map(PASSING, memory, PAGE_SIZE, IOMMU_READ | IOMMU_WRITE, GFP_ATOMIC);
		if (!error)
			smilat_unmap(PASSING, PAGE_SIZE);
	}
	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		preempt_enable();
	done.ns = ktime_get_mono_fast_ns() - begin;
	return error;
}

static int attach(void)
{
	int error;

	if (domain)
		return -EBUSY;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	domain = iommu_paging_domain_alloc(&edu->dev);
	if (IS_ERR(domain)) {
		error = PTR_ERR(domain);
		domain = NULL;
		return error;
	}
#else
	domain = iommu_domain_alloc(edu->dev.bus);
	if (!domain)
		return -ENODEV;
#endif
	error = iommu_attach_device(domain, &edu->dev);
	if (error) {
		iommu_domain_free(domain);
		domain = NULL;
		return error;
	}
	next_iova = LASTING;
	return 0;
}

static void detach(void)
{
	free_all();
	iommu_detach_device(domain, &edu->dev);
	iommu_domain_free(domain);
	domain = NULL;
}

static bool is_size(unsigned long bytes)
{
	return bytes && bytes <= MOST && PAGE_ALIGNED(bytes);
}

static int carry_out(const char *text)
{
	char command[16] = "";
	unsigned long first = 0, second = 0, third = 0;
	int words = sscanf(text, "%15s %lu %lu %lu", command, &first, &second, &third);

	if (words < 1)
		return -EINVAL;
	if (!strcmp(command, "attach"))
		return attach();
	if (!domain)
		return -ENODEV;
	if (words == 1 && !strcmp(command, "detach")) {
		detach();
		return 0;
	}
	if (words == 1 && !strcmp(command, "unmap"))
		return unmap_last();
	if (words == 1 && !strcmp(command, "free")) {
		free_all();
		return 0;
	}
	if (words == 1 && !strcmp(command, "mmio"))
		return map_lasting(pci_resource_start(edu, 0), pci_resource_len(edu, 0),
				   IOMMU_READ | IOMMU_WRITE | IOMMU_MMIO);
	if (words == 2 && !strcmp(command, "map") && is_size(first))
		return leak(first, 1);
	if (words == 3 && !strcmp(command, "at") && PAGE_ALIGNED(first) && is_size(second))
		return map_at(first, memory, second, IOMMU_READ | IOMMU_WRITE);
	if (words == 3 && !strcmp(command, "leak") && is_size(first))
		return leak(first, second);
	if (words == 3 && !strcmp(command, "whole") && is_size(first))
		return pieces(PASSING, first, first, second);
	if (words == 4 && !strcmp(command, "pieces") && is_size(first) && is_size(second))
		return pieces(PASSING + PAGE_SIZE, first, second, third);
	if (words == 4 && !strcmp(command, "super") && is_size(first) && is_size(second))
		return pieces(PASSING, first, second, third);
	if (words == 3 && !strcmp(command, "merged") && is_size(first) && second && second <= 4096)
		return merged(first, second);
	if (words == 3 && !strcmp(command, "times") && is_size(second))
		return timed(first, second);
	if (words == 2 && !strcmp(command, "spin") && first <= 1000)
		return smilat_spin(first * NSEC_PER_MSEC);
	return -EINVAL;
}

/* The kernel keeps others out meanwhile. */
static int set_command(const char *value, const struct kernel_param *param)
{
	memset(&done, 0, sizeof(done));
	return carry_out(value);
}

static int get_done(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%llu %llu %llu %llu %llu %llu\n", done.maps, done.map_bytes, done.unmaps,
			  done.asked_bytes, done.unmap_bytes, done.ns);
}

static const struct kernel_param_ops ops = { .set = set_command, .get = get_done };
module_param_cb(command, &ops, NULL, 0600);

static int __init smilat_init(void)
{
	while ((edu = pci_get_device(EDU_VENDOR, EDU_DEVICE, edu)) && !pci_is_root_bus(edu->bus))
		;
	if (!edu)
		return -ENODEV;
	mappings = kvcalloc(MAX_MAPPINGS, sizeof(*mappings), GFP_KERNEL);
	pages = alloc_pages(GFP_KERNEL, get_order(MOST));
	if (!mappings || !pages) {
		if (pages)
			__free_pages(pages, get_order(MOST));
		kvfree(mappings);
		pci_dev_put(edu);
		return -ENOMEM;
	}
	memory = page_to_phys(pages);
	return 0;
}

static void __exit smilat_exit(void)
{
	if (domain)
		detach();
	__free_pages(pages, get_order(MOST));
	kvfree(mappings);
	pci_dev_put(edu);
}

module_init(smilat_init);
module_exit(smilat_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Maps and unmaps for a device behind the IOMMU, for tests");
