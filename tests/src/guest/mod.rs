//! The guest's side of the tests in virtual machines: sets the machine up, runs the tests, says on the console what
//! became of them, and turns the machine off.
//!
//! A test is a function that panics when it fails. To add one, write it in a file of this folder and name it in
//! [`TESTS`]. A line it prints is shown to people if it begins with four spaces.

pub mod smi;

mod accuracy;
mod broadcast;
mod causes;
mod choice;
mod confusion;
mod cost;
mod cpu_time;
mod disks;
mod dma_latency;
mod doctor;
mod edu;
mod fire;
mod gap_readers;
mod host;
mod hotplug;
mod init;
mod instance;
mod iommu_alarms;
mod iommu_cost;
mod iommu_counts;
mod iommu_faults;
mod iommu_groups;
mod iommu_machine;
mod iommu_refusals;
mod iommu_reports;
mod iommu_watch;
mod irqsoff;
mod kernel_log;
mod known_smis;
mod mapper;
mod measured;
mod noise;
mod paranoid;
mod pci;
mod peers;
mod raw_trace;
mod reader;
mod recall;
mod settings;
mod silence;
mod spin;
mod state;
mod steps;
mod symbols;
mod telling;
mod tracers;
mod truth;
mod unproven;
mod verify;
mod vfio;
mod watch;
mod watching;
mod wire;
mod workload;

use std::{any::Any, fs, io, thread};

/// Kinds of machine, as the kernel's command line names them (`smilat.set=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// Two CPUs, a kernel as most machines run it.
    Stock,
    /// Two CPUs, a kernel with `PREEMPT_RT`, hwlat and osnoise.
    Rt,
    /// One CPU without a gap that the guest did not make.
    Exact,
    /// As [`Set::Rt`], but that SMIs by the port stop both CPUs at once.
    Broadcast,
    /// As [`Set::Rt`], but that the port raises no SMI, and that firmware does not speak of one.
    SmmOff,
    /// As [`Set::Rt`], but with a CPU of AMD's, which has no counter of SMIs.
    Amd,
    /// Two CPUs, any kernel, and the module that keeps interrupts off (`tests/offender`).
    Irqsoff,
    /// As [`Set::Irqsoff`], but one CPU that nothing stops but the guest, whose timers fire when they are due.
    IrqsoffExact,
    /// Two CPUs, any kernel, an IOMMU with devices behind it, and the module that maps and unmaps (`tests/offender`).
    Iommu,
    /// As [`Set::Iommu`], but without the module, and the IOMMU passes all accesses on as they are.
    IommuPassthrough,
    /// As [`Set::Iommu`], but one CPU whose clock counts instructions.
    IommuCost,
    /// Two CPUs whose clock counts instructions, and a kernel with hwlat and osnoise.
    Watching,
    /// Many CPUs, as fast as two of the host's can be all of them.
    Memory,
    /// As [`Set::Rt`].
    Recall,
    /// As [`Set::Rt`], with redis.
    Workload,
    /// As [`Set::Exact`], but that each instruction takes so long that every step of a tracer is a gap, and with perf.
    GapReaders,
    /// The same without perf.
    Steps,
    /// As [`Set::Rt`].
    Floor,
}

use Set::{
    Amd, Broadcast, Exact, Floor, GapReaders, Iommu, IommuCost, IommuPassthrough, Irqsoff,
    IrqsoffExact, Memory, Recall, Rt, SmmOff, Steps, Stock, Watching, Workload,
};

impl Set {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "stock" => Stock,
            "rt" => Rt,
            "exact" => Exact,
            "broadcast" => Broadcast,
            "smm-off" => SmmOff,
            "amd" => Amd,
            "irqsoff" => Irqsoff,
            "irqsoff-exact" => IrqsoffExact,
            "iommu" => Iommu,
            "iommu-pt" => IommuPassthrough,
            "iommu-cost" => IommuCost,
            "watching" => Watching,
            "memory" => Memory,
            "recall" => Recall,
            "workload" => Workload,
            "gap-readers" => GapReaders,
            "steps" => Steps,
            "floor" => Floor,
            _ => return None,
        })
    }

    /// Tracepoints that its tests attach to and others' do not.
    fn tracepoints(self) -> &'static [&'static str] {
        match self {
            Irqsoff | IrqsoffExact => &["timer", "csd", "power/cpu_idle", "nmi"],
            _ => &[],
        }
    }

    /// Makes the machine what its tests take it for, where QEMU's command line cannot.
    fn set_up(self) -> io::Result<()> {
        match self {
            Broadcast => smi::broadcast(),
            SmmOff => smi::disarm_port(),
            _ => Ok(()),
        }
    }
}

struct Test {
    module: &'static str,
    name: &'static str,
    /// Where it runs.
    sets: &'static [Set],
    run: fn(),
}

macro_rules! tests {
    ($($module:ident::$name:ident on $sets:expr;)*) => {
        &[$(Test { module: stringify!($module), name: stringify!($name), sets: &$sets, run: $module::$name },)*]
    };
}

/// All of them, in the order in which they run.
const TESTS: &[Test] = tests! {
    known_smis::the_counter_moves_by_one_for_each_smi on [Stock, Rt, Exact];
    known_smis::a_cpu_that_reads_its_clock_sees_each_smi_as_a_gap on [Stock, Rt];
    host::a_stop_from_outside_is_a_gap_of_its_length on [Stock, Rt];
    broadcast::a_write_to_the_port_stops_both_cpus on [Broadcast];
    broadcast::fire_proves_smis_that_stop_both_cpus on [Broadcast];
    unproven::fire_proves_nothing_where_the_port_raises_no_smi on [SmmOff];
    unproven::fire_proves_nothing_where_the_cpu_has_no_counter on [Amd];
    unproven::run_needs_neither_smis_nor_their_counter on [SmmOff, Amd];
    fire::fire_moves_the_msr_pmu_by_a_thousand_for_a_thousand_smis on [Stock, Rt];
    fire::each_counter_counts_every_smi_fired on [Stock, Rt];
    fire::a_counter_ends_when_its_cpu_goes_offline on [Stock, Rt];
    fire::fire_reads_the_register_without_the_pmu_and_proves_nothing_without_both on [Stock, Rt];
    fire::other_smis_are_not_taken_for_those_fired on [Stock, Rt];
    fire::fire_reports_what_it_did_when_interrupted on [Stock, Rt];
    fire::fire_refuses_requests_to_firmware_and_does_nothing_without_yes on [Stock, Rt];
    spin::every_smi_in_a_stretch_is_a_gap_of_its_length on [Stock, Rt];
    causes::a_thousand_smis_of_fire_are_a_thousand_within_the_programs on [Stock, Rt];
    causes::short_smis_are_not_put_down_to_the_gap_after_them on [Stock, Rt];
    causes::smis_inside_and_outside_of_sampling_add_up on [Stock, Rt];
    causes::a_counter_that_is_no_perf_event_is_compared_by_the_interval on [Stock, Rt];
    causes::smis_are_counted_again_when_a_cpu_is_back on [Stock, Rt];
    confusion::every_gap_gets_its_cause on [Stock, Rt];
    verify::verify_proves_every_step_where_smis_stop_all_cpus on [Broadcast];
    verify::an_interrupted_verify_refutes_nothing on [Broadcast];
    verify::verify_says_that_smis_reach_the_writing_cpu_only on [Stock, Rt];
    verify::verify_refutes_where_the_port_raises_no_smi on [SmmOff];
    verify::verify_cannot_prove_anything_without_a_counter on [Amd];
    choice::a_stock_kernel_gets_spin_and_is_told_why on [Stock];
    paranoid::the_units_capabilities_are_enough_and_no_more_is_kept on [Stock, Rt];
    paranoid::three_capabilities_are_enough_where_the_setting_is_lower on [Stock, Rt];
    paranoid::without_sys_admin_the_refusal_names_the_setting_and_what_helps on [Stock, Rt];
    doctor::doctor_says_of_each_kernel_what_is_on_record on [Stock, Rt];
    doctor::doctor_tells_a_stock_kernel_how_to_get_what_it_lacks on [Stock];
    doctor::doctor_finds_every_detector_in_a_realtime_kernel on [Rt];
    dma_latency::the_dma_latency_holds_as_long_as_smilat_lives on [Stock, Rt];
    cost::smi_cost_is_refused_without_counters_of_the_cpus on [Stock, Rt];
    cost::what_smi_cost_left_is_put_back_beside_a_tracer_at_work on [Rt];
    settings::the_kernel_has_the_settings_that_were_asked_for on [Rt];
    settings::settings_are_back_after_every_end on [Rt];
    settings::what_a_kill_leaves_is_put_back_by_restore_and_by_the_next_start on [Rt];
    settings::settings_are_back_after_a_panic on [Rt];
    settings::a_tracer_at_work_elsewhere_is_left_alone on [Rt];
    settings::an_instance_left_over_is_removed_and_one_in_use_is_told on [Rt];
    settings::a_tracer_taken_away_ends_the_run_with_a_report on [Rt];
    settings::without_a_breakpoint_the_buffer_is_read_and_that_is_told on [Rt];
    hotplug::spin_goes_on_when_a_cpu_goes_and_comes_back on [Stock, Rt];
    hotplug::tracers_go_on_when_a_cpu_goes_and_comes_back on [Rt];
    hotplug::hwlat_keeps_taking_turns_when_a_cpu_goes on [Rt];
    tracers::hwlat_by_breakpoint_agrees_with_the_trace_buffer on [Rt];
    tracers::hwlat_by_buffer_agrees_with_the_trace_buffer on [Rt];
    tracers::osnoise_tells_smis on [Rt];
    tracers::osnoise_with_interrupts_on_estimates_smis on [Rt];
    peers::rtla_hwnoise_counts_smis on [Rt];
    peers::hwlatdetect_lists_windows_with_smis on [Rt];
    accuracy::every_detector_sees_known_smis_as_long_as_they_are on [Rt];
    silence::no_detector_sees_a_gap_where_there_is_none on [Exact];
    irqsoff::each_stretch_with_interrupts_off_is_found_once_with_its_length_and_function on [IrqsoffExact];
    irqsoff::a_function_that_another_cpu_asked_for_is_named_where_the_kernel_tells on [Irqsoff];
    irqsoff::a_stop_from_outside_is_not_taken_for_interrupts_that_were_off on [Irqsoff];
    irqsoff::sections_that_cannot_be_preempted_are_told_in_ticks on [Irqsoff, IrqsoffExact];
    irqsoff::many_short_sections_are_not_told_as_a_long_one on [Irqsoff];
    irqsoff::a_cpu_that_goes_and_comes_is_watched_again on [Irqsoff];
    irqsoff::what_is_exempt_is_counted_and_not_logged on [Irqsoff];
    irqsoff::max_log_keeps_entries_back_and_counts_all on [Irqsoff];
    iommu_machine::devices_are_in_groups_that_the_iommu_translates_for on [Iommu];
    iommu_machine::what_a_read_maps_is_unmapped_and_nothing_else_maps on [Iommu];
    iommu_machine::network_cards_map_what_they_send_and_rest_when_they_are_off on [Iommu];
    iommu_machine::edu_makes_faults_that_the_kernel_logs on [Iommu];
    iommu_machine::a_device_goes_to_user_space_and_comes_back on [Iommu];
    iommu_machine::the_mapper_does_what_it_says on [Iommu];
    iommu_groups::boot_is_told_as_far_as_the_kernel_kept_it on [Iommu];
    iommu_groups::the_tree_is_that_of_sysfs_and_says_what_must_travel_together on [Iommu];
    iommu_groups::a_device_given_to_user_space_and_taken_back_is_told_as_it_happens on [Iommu];
    iommu_groups::a_device_that_goes_and_comes_is_told_with_its_group on [Iommu];
    iommu_counts::a_read_counts_as_in_the_raw_trace_of_the_same_time on [Iommu];
    iommu_counts::what_all_devices_map_at_the_same_time_counts_as_in_the_raw_trace on [Iommu];
    iommu_counts::filters_leave_out_all_else on [Iommu];
    iommu_alarms::pieces_of_what_was_mapped_as_one_raise_an_alarm on [Iommu];
    iommu_alarms::what_is_unmapped_as_it_was_mapped_raises_no_alarm on [Iommu];
    iommu_alarms::without_following_mappings_the_ratio_still_raises_the_alarm on [Iommu];
    iommu_alarms::mappings_without_room_are_counted_and_told on [Iommu];
    iommu_alarms::what_is_mapped_and_never_unmapped_raises_suspicion on [Iommu];
    iommu_alarms::what_is_no_main_memory_is_named on [Iommu];
    iommu_alarms::a_thread_that_keeps_its_cpu_is_named_with_its_stack on [Iommu];
    iommu_alarms::unmaps_are_timed_as_often_as_asked_for on [Iommu];
    iommu_faults::faults_are_told_with_device_and_address on [Iommu];
    iommu_faults::max_faults_keeps_reports_back_and_counts_all on [Iommu];
    iommu_faults::what_the_driver_keeps_out_of_the_log_is_told on [Iommu];
    iommu_faults::what_is_mapped_makes_no_fault on [Iommu];
    iommu_faults::faults_of_other_devices_are_left_out on [Iommu];
    iommu_reports::text_and_metrics_agree_with_the_ndjson_of_the_same_time on [Iommu];
    iommu_refusals::unknown_devices_and_groups_are_refused on [Iommu];
    iommu_refusals::a_machine_in_passthrough_is_told_why_nothing_is_mapped on [IommuPassthrough];
    iommu_refusals::without_an_iommu_the_remedy_is_told on [Stock];
    iommu_cost::an_event_costs_so_much_under_each_who_watches on [IommuCost];
    watching::watching_costs_so_much on [Watching];
    watching::watching_holds_so_much_memory on [Memory];
    recall::smis_of_every_rate_are_seen on [Recall];
    gap_readers::a_gap_costs_so_much_under_each_who_reads on [GapReaders];
    steps::steps_are_so_many_instructions on [Steps];
    steps::steps_are_longer_than_that_so_often on [Floor];
    iommu_machine::a_machine_in_passthrough_translates_for_no_device on [IommuPassthrough];
    workload::redis_serves_so_much_under_each_who_watches on [Workload];
};

/// Sets the machine up, then runs the tests or gives people a shell. Does not return.
pub fn main() -> ! {
    let mounted = init::mount_all();
    let options = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let option = |name: &str| {
        options
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let name = option("smilat.set").unwrap_or_default();
    let set = Set::named(name);
    if let Err(error) = mounted
        .and_then(|()| init::patch_for_good(set.map_or(&[], Set::tracepoints)))
        .and_then(|()| init::start_cpus())
        .and_then(|()| init::load_modules())
    {
        println!("cannot set the machine up: {error}");
        init::power_off(false);
    }
    if options
        .split_whitespace()
        .any(|word| word == "smilat.shell")
    {
        let error = init::shell();
        println!("cannot run a shell: {error}");
        init::power_off(false);
    }
    let Some(set) = set else {
        println!("smilat.set={name} names no set of tests");
        init::power_off(false);
    };
    if let Err(error) = set.set_up() {
        println!("cannot set the machine up as {name}: {error}");
        init::power_off(false);
    }
    let only = option("smilat.tests").unwrap_or_default();
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|test| test.sets.contains(&set))
        .filter(|test| format!("{}::{}", test.module, test.name).contains(only))
        .collect();
    init::power_off(run(&chosen));
}

/// Runs tests; whether all passed.
fn run(tests: &[&Test]) -> bool {
    let names: Vec<&str> = tests.iter().map(|test| test.name).collect();
    println!("PLAN {}", names.join(" "));
    let mut all_passed = true;
    for test in tests {
        let before = state::State::read();
        // In a thread of its own: a panic ends that test only, and so does what it sets for the thread.
        match thread::spawn(test.run).join() {
            Ok(()) => println!("VERDICT ok {}", test.name),
            Err(panic) => {
                all_passed = false;
                println!("VERDICT FAILED {}: {}", test.name, reason(panic.as_ref()));
                // What it left must not fail the others.
                before.put_back();
            }
        }
    }
    all_passed
}

/// What a panic said, on one line.
fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it said nothing");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" | ")
}
