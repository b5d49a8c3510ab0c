use std::{env, fs, time::Duration};

use clap::Arg;

use super::*;
use crate::{kernel::cpus::CpuList, settings::Mode};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/smilat.toml");

/// `smilat run --config FILE ARGS...`, with `text` in the file.
fn with(text: &str, args: &[&str]) -> Result<Understood, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("smilat.toml");
    fs::write(&file, text).expect("written");
    let mut arguments: Vec<OsString> = vec!["smilat".into(), "run".into(), "--config".into()];
    arguments.push(file.into());
    arguments.extend(args.iter().map(OsString::from));
    understand(&arguments)
}

#[track_caller]
fn refused(text: &str, args: &[&str]) -> String {
    let error = with(text, args).expect_err(text);
    let error = anyhow::Error::from(error);
    format!("{error:#}")
}

#[test]
fn keys_are_options_and_the_command_line_overrules_them() {
    let text = "threshold = '20us'\ncpus = \"0\"\nforce = true\nsmi-cost = false\nrt-priority = 5\nmode = 'per-cpu'\n";
    let plain = with(text, &[]).expect("understood");
    let detection = &plain.run().expect("run").detection;
    assert_eq!(detection.threshold, Duration::from_micros(20));
    assert_eq!(
        detection.cpus.as_ref().map(CpuList::to_string).as_deref(),
        Some("0")
    );
    assert!(detection.force && !detection.smi_cost);
    assert_eq!(
        (detection.rt_priority, detection.mode),
        (5, Some(Mode::PerCpu))
    );
    let other = with(text, &["--threshold=7us", "--mode", "none"]).expect("understood");
    let detection = &other.run().expect("run").detection;
    assert_eq!(detection.threshold, Duration::from_micros(7));
    assert_eq!(
        (detection.rt_priority, detection.mode),
        (5, Some(Mode::None))
    );
    let differing = differences(&plain.options, &other.options);
    assert_eq!(differing, ["config", "mode", "threshold"]);
}

#[test]
fn an_option_of_the_command_line_excludes_what_cannot_go_with_it() {
    let understood = with("quiet = true", &["--verbose"]).expect("understood");
    let run = understood.run().expect("run");
    assert!(run.verbose && !run.quiet);
    let told = refused("quiet = true\nverbose = true", &[]);
    assert!(told.contains("cannot be used with"), "{told}");
}

#[test]
fn what_an_option_needs_may_stand_in_the_other_place() {
    for (file, line) in [
        ("otlp = 'http://localhost'", "--otlp-interval=30s"),
        ("otlp = 'http://localhost'", "--otlp-header=a=b"),
        ("otlp = 'http://localhost'", "--otlp-instance=here"),
        ("listen = '9793'", "--per-cpu-histograms"),
        ("record = 'gaps.ndjson'", "--rotate-size=1MiB"),
        ("record = 'gaps.ndjson'", "--rotate-keep=1"),
        ("otlp-interval = '30s'", "--otlp=http://localhost"),
        ("per-cpu-histograms = true", "--listen=9793"),
        ("rotate-keep = 1", "--record=gaps.ndjson"),
    ] {
        if let Err(error) = with(file, &[line]) {
            panic!("{file}, {line}: {error}");
        }
        // Each by itself lacks the other, or is enough.
        let by_hand =
            file.starts_with("otlp =") || file.starts_with("listen") || file.starts_with("record");
        let told = if by_hand {
            refused("interval = '1s'", &[line])
        } else {
            refused(file, &[])
        };
        assert!(told.contains("required"), "{told}");
    }
    let understood =
        with("otlp = 'http://localhost'", &["--otlp-interval=30s"]).expect("understood");
    let run = understood.run().expect("run");
    assert_eq!(run.push.otlp_interval, Some(Duration::from_secs(30)));
    assert!(run.push.otlp.is_some());
    // Without a file, clap tells it by itself, with how it is used.
    let arguments = ["smilat", "run", "--otlp-interval=30s"].map(OsString::from);
    let error = understand(&arguments).expect_err("no receiver");
    assert!(matches!(error, ConfigError::CommandLine(_)), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, told) in [
        (
            "\nthreshhold = '1us'",
            "smilat.toml:2: there is no option \"threshhold\"; did you mean threshold? (the options: threshold,",
        ),
        ("irqs_off_max = '1us'", "did you mean irqs-off-max?"),
        ("xyzzy = 1", "there is no option \"xyzzy\" (the options:"),
        (
            "# one\nwidth = '10parsecs'",
            "smilat.toml:2: width: invalid value '10parsecs' for '--width <TIME>': ",
        ),
        (
            "mode = 'sometimes'",
            "[possible values: none, round-robin, per-cpu]",
        ),
        (
            "rt-priority = 100",
            "smilat.toml:1: rt-priority: invalid value '100'",
        ),
        (
            "threshold = true",
            "smilat.toml:1: threshold takes one value in quotes, as in threshold = \"TIME\", not a boolean",
        ),
        ("cpus = [2, 3]", "not an array"),
        (
            "force = 'yes'",
            "force is a switch: write force = true or force = false, not a string",
        ),
        (
            "[run]\nthreshold = '1us'",
            "smilat.toml:1: there are no tables here: remove [run]",
        ),
        ("threshold.a = 1", "not a table"),
        ("threshold = 10us", "smilat.toml:1: this is not TOML: "),
        (
            "width = '1ms'\nwidth = '2ms'",
            "smilat.toml:2: this is not TOML: duplicate key",
        ),
        ("config = 'other'", "cannot name another one"),
        ("help = true", "there is no option \"help\""),
    ] {
        let error = refused(text, &[]);
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn a_wrong_value_is_told_even_where_the_command_line_overrules_it() {
    let told = refused("width = 'wide'", &["--width=1ms"]);
    assert!(told.contains("smilat.toml:1: width: "), "{told}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let arguments: Vec<OsString> = ["smilat", "run", "--config=/no/such/file"]
        .map(OsString::from)
        .into();
    let error = understand(&arguments).expect_err("no file");
    let told = format!("{:#}", anyhow::Error::from(error));
    assert!(
        told.contains("cannot read the configuration /no/such/file: No such file"),
        "{told}"
    );
}

/// With `SMILAT_UPDATE_SNAPSHOTS` set, writes the example anew.
#[test]
fn the_example_in_the_package_has_every_option_and_its_default() {
    let now = example();
    if env::var_os("SMILAT_UPDATE_SNAPSHOTS").is_some() {
        fs::write(EXAMPLE, &now).expect("written");
    }
    let kept = fs::read_to_string(EXAMPLE).expect("the example");
    assert_eq!(
        kept, now,
        "packaging/smilat.toml is not what the options are now: SMILAT_UPDATE_SNAPSHOTS=1 cargo test -p smi-user example"
    );
    let command = run_command();
    let options: Vec<&Arg> = file::settable(&command)
        .filter(|arg| !arg.is_hide_set())
        .collect();
    let lines: Vec<&str> = now
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.contains(" = ") && !line.starts_with(' '))
        .collect();
    assert_eq!(lines.len(), options.len(), "{lines:#?}");
    // As if a user took away every #: where there is a default, all is as without the file.
    let has_default = |line: &str| {
        let key = line.split(' ').next();
        options
            .iter()
            .any(|arg| arg.get_long() == key && !arg.get_default_values().is_empty())
    };
    // Switches and lists are as without the file, too.
    let (defaults, others): (Vec<&str>, Vec<&str>) = lines
        .iter()
        .partition(|line| !line.ends_with('"') || has_default(line));
    // Some only make sense beside this one.
    let record = "record = \"gaps\"\n";
    let with_defaults = with(&(record.to_owned() + &defaults.join("\n")), &[]);
    let with_defaults = with_defaults.expect("understood");
    let without = with(record, &[]).expect("understood");
    assert_eq!(
        differences(&with_defaults.options, &without.options),
        ["config"]
    );
    for line in others {
        let (key, _) = line.split_once(' ').expect("a key");
        // TOML, and a known key: if anything is wrong with it, it is the placeholder, or the option that it belongs to.
        if let Err(error) = with(line, &[]) {
            let error = error.to_string();
            let told = [
                format!("{key}: invalid value"),
                "required arguments were not provided".to_owned(),
            ];
            assert!(told.iter().any(|told| error.contains(told)), "{error}");
        }
    }
}
