//! `smilat iommu` beside a module that maps and unmaps as drivers should not.

use std::{
    fs, hint,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use smi_user::{kernel::sched, model::iommu::What};

use super::{
    iommu_watch::{Watch, count_and_bytes, domain_of},
    mapper::{Done, Mapper},
    pci::{self, EDU},
};

const PAGE: u64 = 4096;
const SUPERPAGE: u64 = 2 << 20;

/// VFIO's defect of old: what was mapped as one was unmapped page by page.
pub(super) fn pieces_of_what_was_mapped_as_one_raise_an_alarm() {
    let mapper = Mapper::attach();
    for (command, maps, unmaps, bytes) in [
        ("pieces 65536 4096 200", 200, 3200, 65_536),
        // Superpages, too, and those are unmapped as a whole by the first piece: the kernel says so at each.
        ("super 2097152 4096 4", 4, 2048, SUPERPAGE),
    ] {
        let mut watch = Watch::start(&["--interval=2s"]);
        let done = mapper.run(command);
        let event = watch.event("an alarm", |what| matches!(what, What::Ratio { .. }));
        watch.settled();
        let told = watch.end();
        assert_eq!(told.code(), 1, "{command}: {}", told.words);
        told.assert_whole();
        let domain = domain_of(told.last(), EDU);
        assert_eq!(domain.kind.as_deref(), Some("unmanaged"));
        assert_eq!(count_and_bytes(&domain.maps), (done.maps, done.map_bytes));
        assert_eq!(
            count_and_bytes(&domain.unmaps),
            (done.unmaps, done.unmap_bytes)
        );
        assert_eq!((done.maps, done.unmaps), (maps, unmaps), "{command}");
        assert_eq!(
            (domain.whole, domain.pieces, domain.untracked),
            (0, unmaps, 0),
            "{command}"
        );
        // Each byte is freed once, whatever the kernel says.
        assert_eq!(
            (domain.asked_bytes, domain.freed_bytes, domain.net_bytes()),
            (maps * bytes, maps * bytes, 0),
            "{command}"
        );
        let What::Ratio {
            domain: number,
            groups,
            devices,
            maps,
            unmaps,
            pieces,
            single_pages,
            limit,
            ..
        } = event.what
        else {
            unreachable!("an alarm");
        };
        println!("    {command}: {unmaps} unmaps for {maps} maps, {pieces} of pieces");
        assert_eq!(number, domain.domain);
        assert_eq!(
            (groups, devices),
            (vec![pci::group(EDU)], vec![EDU.to_owned()])
        );
        // What came of it within the first interval of those that it took.
        let first = told.snapshots.iter().find(|snapshot| {
            let domain = snapshot.domains.iter().find(|one| one.domain == number);
            domain.is_some_and(|domain| domain.unmaps.count > 0)
        });
        let lately = domain_of(first.expect("counted"), EDU).lately;
        assert_eq!((maps, unmaps), (lately.maps, lately.unmaps));
        assert_eq!((pieces, single_pages), (unmaps, unmaps));
        assert!(unmaps as f64 > limit * maps as f64);
        assert!(told.last().ratio_alarms > 0);
    }
}

pub(super) fn what_is_unmapped_as_it_was_mapped_raises_no_alarm() {
    let mapper = Mapper::attach();
    // One that was mapped before the watch.
    mapper.run("map 16384");
    let watch = Watch::start(&[]);
    for command in [
        "whole 65536 2000",
        "whole 2097152 50",
        "merged 4096 1000",
        "leak 8192 500",
        "free",
    ] {
        mapper.run(command);
    }
    let told = watch.end();
    assert_eq!(told.code(), 0, "{:#?}", told.events);
    told.assert_whole();
    assert_eq!(told.last().ratio_alarms, 0);
    let domain = domain_of(told.last(), EDU);
    assert_eq!(
        (domain.maps.count, domain.unmaps.count),
        (2000 + 50 + 1000 + 500, 2000 + 50 + 1 + 501)
    );
    assert_eq!(
        (domain.whole, domain.pieces, domain.untracked),
        (domain.unmaps.count - 1, 0, 1)
    );
}

/// Without the table of what is mapped, unmaps cannot be told apart; the ratio still can be.
pub(super) fn without_following_mappings_the_ratio_still_raises_the_alarm() {
    let mapper = Mapper::attach();
    let mut watch = Watch::start(&["--track=0"]);
    mapper.run("pieces 65536 4096 200");
    watch.event("an alarm", |what| matches!(what, What::Ratio { .. }));
    let told = watch.end();
    assert_eq!(told.code(), 1);
    let domain = domain_of(told.last(), EDU);
    assert_eq!((domain.maps.count, domain.unmaps.count), (200, 3200));
    assert_eq!(domain.pieces, 0);
    assert_eq!(told.last().following.room, 0);
}

/// More than there is room for: what is not followed is counted all the same, and that it is not is told.
pub(super) fn mappings_without_room_are_counted_and_told() {
    const ROOM: u64 = 64;
    const MAPS: u64 = 1000;
    let mapper = Mapper::attach();
    let watch = Watch::start(&[&format!("--track={ROOM}")]);
    mapper.run(&format!("leak 4096 {MAPS}"));
    mapper.run("free");
    let told = watch.end();
    let last = told.last();
    let domain = domain_of(last, EDU);
    assert_eq!((domain.maps.count, domain.unmaps.count), (MAPS, MAPS));
    assert_eq!(domain.net_bytes(), 0);
    let refused = last.following.refused;
    println!("    room for {ROOM}: {refused} of {MAPS} found none");
    assert_eq!(last.following.room, ROOM);
    assert!(refused > 0 && refused <= MAPS - ROOM / 2, "{refused}");
    assert_eq!(
        (domain.whole, domain.untracked, domain.pieces),
        (MAPS - refused, refused, 0)
    );
}

pub(super) fn what_is_mapped_and_never_unmapped_raises_suspicion() {
    let mapper = Mapper::attach();
    let mut watch = Watch::start(&["--growth-for=5s", "--interval=500ms"]);
    let is_over = AtomicBool::new(false);
    let (event, leaked) = thread::scope(|scope| {
        let leaker = scope.spawn(|| {
            let mut leaked = Done::default();
            while !is_over.load(Ordering::Relaxed) {
                let done = mapper.run("leak 8192 10");
                mapper.run("whole 65536 10");
                leaked.maps += done.maps;
                leaked.map_bytes += done.map_bytes;
                thread::sleep(Duration::from_millis(50));
            }
            leaked
        });
        let event = watch.event("a suspicion", |what| matches!(what, What::Growth { .. }));
        is_over.store(true, Ordering::Relaxed);
        (event, leaker.join().expect("leaked"))
    });
    let What::Growth {
        groups,
        devices,
        net_bytes,
        grown_bytes,
        left,
        ..
    } = event.what
    else {
        unreachable!("a suspicion");
    };
    println!(
        "    grown by {grown_bytes} to {net_bytes} bytes, {} leaked by the end; left: {left:?}",
        leaked.map_bytes
    );
    assert_eq!(
        (groups, devices),
        (vec![pci::group(EDU)], vec![EDU.to_owned()])
    );
    assert!(grown_bytes > 0 && net_bytes.cast_unsigned() >= grown_bytes);
    // With one that is about to be unmapped.
    let most_bytes = leaked.map_bytes + 65_536;
    assert!(net_bytes.cast_unsigned() <= most_bytes);
    let left_bytes: u64 = left.iter().map(|left| left.bytes).sum();
    let mappings: u64 = left.iter().map(|left| left.mappings).sum();
    // Read a little after the counts.
    assert!(left_bytes + 65_536 >= net_bytes.cast_unsigned() && left_bytes <= most_bytes);
    assert!(mappings <= leaked.maps + 1);
    let told = watch.end();
    assert_eq!(told.code(), 0, "a suspicion is no alarm of --ratio-limit");
    assert!(told.last().growth_alarms > 0);
    let domain = domain_of(told.last(), EDU);
    assert_eq!(domain.net_bytes().cast_unsigned(), leaked.map_bytes);
}

/// The names of what lies at `address` by `/proc/iomem`, whose lines go from the whole to its parts; the innermost first.
fn iomem_names(address: u64) -> String {
    let text = fs::read_to_string("/proc/iomem").expect("/proc/iomem");
    let mut names: Vec<&str> = text
        .lines()
        .map(|line| line.split_once(" : ").expect("a name"))
        .filter(|(range, _)| {
            let (first, last) = range.trim().split_once('-').expect("a range");
            let parse = |text| u64::from_str_radix(text, 16).expect("an address");
            (parse(first)..=parse(last)).contains(&address)
        })
        .map(|(_, name)| name)
        .collect();
    names.reverse();
    names.join(", ")
}

pub(super) fn what_is_no_main_memory_is_named() {
    let resource = fs::read_to_string(pci::folder(EDU).join("resource")).expect("its resources");
    let bar = resource.split_whitespace().next().expect("a first one");
    let bar = u64::from_str_radix(bar.trim_start_matches("0x"), 16).expect("an address");
    let mapper = Mapper::attach();
    let mut watch = Watch::start(&[]);
    mapper.run("map 65536");
    let done = mapper.run("mmio");
    let event = watch.event("what is no memory", |what| {
        matches!(what, What::NotRam { .. })
    });
    let told = watch.end();
    let What::NotRam {
        groups,
        devices,
        paddr,
        bytes,
        of,
        ..
    } = event.what
    else {
        unreachable!("no memory");
    };
    println!("    {bytes} bytes at {paddr:#x}: {of:?}");
    assert_eq!(
        (groups, devices),
        (vec![pci::group(EDU)], vec![EDU.to_owned()])
    );
    assert_eq!((paddr, bytes), (bar, done.map_bytes));
    assert_eq!(of, Some(iomem_names(bar)));
    assert!(of.is_some_and(|of| of.starts_with(EDU)));
    let domain = domain_of(told.last(), EDU);
    assert_eq!(
        (domain.maps.count, domain.not_ram, domain.not_ram_bytes),
        (2, 1, done.map_bytes)
    );
    let others = told
        .events
        .iter()
        .filter(|event| matches!(event.what, What::NotRam { paddr, .. } if paddr != bar));
    assert_eq!(others.count(), 0);
}

/// A thread that the scheduler cannot take the CPU from, and another that waits for it.
pub(super) fn a_thread_that_keeps_its_cpu_is_named_with_its_stack() {
    const CPU: u32 = 1;
    let is_rt = fs::exists("/sys/kernel/realtime").expect("looked");
    let mapper = Mapper::attach();
    let mut watch = Watch::start(&[]);
    let is_over = AtomicBool::new(false);
    let spinner = thread::scope(|scope| {
        scope.spawn(|| {
            sched::set_affinity([CPU]).expect("on one CPU");
            while !is_over.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        });
        let spinner = scope.spawn(|| {
            sched::set_affinity([CPU]).expect("on one CPU");
            mapper.run("spin 300");
            // SAFETY: the call takes nothing.
            unsafe { libc::gettid() }.cast_unsigned()
        });
        let spinner = spinner.join();
        is_over.store(true, Ordering::Relaxed);
        spinner.expect("spun")
    });
    let by_spinner = |what: &What| matches!(what, What::Late { thread, .. } if *thread == spinner);
    if is_rt {
        // There the scheduler takes the CPU within a map or unmap.
        watch.settled();
        let told = watch.end();
        let events: Vec<_> = told
            .events
            .iter()
            .filter(|event| by_spinner(&event.what))
            .collect();
        assert!(events.is_empty(), "{events:#?}");
        return;
    }
    let event = watch.event("a late thread", by_spinner);
    let told = watch.end();
    let What::Late {
        cpu,
        process,
        length_ns,
        stack,
        no_stack,
        ..
    } = event.what
    else {
        unreachable!("a late thread");
    };
    println!("    late by {} us so far: {stack:?}", length_ns / 1000);
    assert_eq!((cpu, process), (CPU, std::process::id()));
    assert_eq!(no_stack, None);
    assert!(
        stack.iter().any(|frame| frame.starts_with("smilat_spin")),
        "{stack:?}"
    );
    let late = told.last().late;
    assert_eq!(late.limit_ns, Some(10_000_000));
    assert!(length_ns >= 10_000_000, "{length_ns}");
    assert!(late.count > 0 && late.max_ns >= length_ns, "{late:?}");
}

/// Unmaps are timed, and only as often as was asked for.
pub(super) fn unmaps_are_timed_as_often_as_asked_for() {
    const UNMAPS: u64 = 1000;
    let mapper = Mapper::attach();
    for (option, one_in, expected) in [
        ("--time-one-in=1", 1, UNMAPS),
        ("--time-one-in=10", 10, UNMAPS / 10),
        ("--time-one-in=0", 0, 0),
    ] {
        let watch = Watch::start(&[option]);
        thread::scope(|scope| {
            scope.spawn(|| {
                sched::set_affinity([0]).expect("on one CPU");
                mapper.run(&format!("whole {PAGE} {UNMAPS}"));
            });
        });
        let told = watch.end();
        let last = told.last();
        assert_eq!(last.timed_one_in, one_in);
        let timed: u64 = last.times.iter().map(|times| times.count).sum();
        // One more or less, as the CPU had counted before.
        assert!(timed.abs_diff(expected) <= u64::from(one_in > 1), "{timed}");
        for times in &last.times {
            let counted: u64 = times.histogram.counts().iter().sum();
            assert_eq!(counted, times.count);
            assert!(times.max_ns <= times.sum_ns);
            println!(
                "    {option}: {} timed {} times, {} ns in the mean",
                times.function,
                times.count,
                times.sum_ns / times.count.max(1)
            );
        }
    }
}
