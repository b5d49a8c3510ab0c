//! `smilat run --smi-cost` in machines without a PMU of the CPU's own.

use std::{fs, path::Path};

use super::{state::State, watch::Watch};
use crate::{cost::killed_run, output, refused, smilat, stderr};

pub(super) fn smi_cost_is_refused_without_counters_of_the_cpus() {
    refused(
        smilat().args(["run", "--duration=1s", "--smi-cost"]),
        &[
            "no PMU of the CPU's own",
            "run smilat on bare metal",
            "leave out --smi-cost",
        ],
    );
}

/// Settings of the tracers and of the counters are held apart: those of one are put back while the other are in use.
pub(super) fn what_smi_cost_left_is_put_back_beside_a_tracer_at_work() {
    let before = State::read();
    let setting = Path::new("/tmp/freeze_on_smi");
    let read = || fs::read_to_string(setting).expect("read");
    let watch = Watch::start(&["--detector=hwlat"]);
    let journal = killed_run(setting);
    let restored = output(smilat().arg("restore"));
    let (told, said) = (String::from_utf8_lossy(&restored.stdout), stderr(&restored));
    assert!(told.contains("/tmp/freeze_on_smi is \"0\" again"), "{told}");
    assert!(
        said.contains("the kernel's tracing settings are in use by process"),
        "{said}"
    );
    assert_eq!(restored.status.code(), Some(2));
    assert_eq!((read().as_str(), journal.exists()), ("0", false));
    let ended = watch.end();
    assert!(ended.status.success(), "{}", ended.words);
    assert_eq!(State::read(), before);

    // The start of a detector that changes other settings does it as well.
    let journal = killed_run(setting);
    let ended = Watch::start(&["--detector=osnoise"]).end();
    assert!(
        ended
            .words
            .contains("left by a smilat that was killed: /tmp/freeze_on_smi"),
        "{}",
        ended.words
    );
    assert_eq!((read().as_str(), journal.exists()), ("0", false));
    assert_eq!(State::read(), before);
}
