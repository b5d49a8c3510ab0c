//! What is under `deploy/`: rules and dashboard say what Prometheus understands of metrics that exist, and the manifest is
//! what Kubernetes takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tests::{
    capabilities::{are_enough_and_needed, set},
    from_env, output,
    serving::Serving,
    smilat_path, stderr,
};

/// The project's files.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[track_caller]
fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs `promtool`, which must find nothing wrong.
#[track_caller]
fn promtool(args: &[&str], files: &[PathBuf]) {
    let output = output(
        Command::new(from_env("SMILAT_PROMTOOL"))
            .args(args)
            .args(files),
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert!(output.status.success(), "promtool {args:?}: {said}");
    assert!(said.contains("SUCCESS"), "promtool {args:?}: {said}");
}

#[test]
fn the_rules_are_rules_and_do_what_their_tests_say() {
    promtool(
        &["check", "rules", "--lint-fatal"],
        &[project("deploy/prometheus/smilat.rules.yml")],
    );
    promtool(
        &["test", "rules"],
        &[project("deploy/prometheus/smilat.test.yml")],
    );
}

#[test]
fn every_rule_is_tested() {
    let (rules, tests) = (
        text("deploy/prometheus/smilat.rules.yml"),
        text("deploy/prometheus/smilat.test.yml"),
    );
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("- alert: ")
                .or_else(|| line.strip_prefix("- record: "))
        })
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(tests.contains(name), "{name} is in no test");
    }
}

#[test]
fn the_scrape_configuration_is_one() {
    promtool(
        &["check", "config"],
        &[project("deploy/prometheus/scrape.yml")],
    );
}

/// The names in the first column of a document's tables, or in the third.
fn documented(path: &str, column: usize) -> BTreeSet<String> {
    text(path)
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| line.split('|').nth(column))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        // Without its labels, if they are told there too.
        .map(|name| name.split('{').next().unwrap_or(name).to_owned())
        .filter(|name| name.starts_with("smilat_"))
        .collect()
}

/// Metrics that a scrape or a push can bring.
fn known() -> BTreeSet<String> {
    let mut names = documented("docs/metrics.md", 1);
    assert!(names.len() > 20, "docs/metrics.md names {names:?}");
    names.extend(documented("docs/otlp.md", 3));
    names
}

/// Metrics that a machine, a detector or a choice of options may not have.
const OPTIONAL: [&str; 11] = [
    // Where nothing counts SMIs, or does so within the kernel.
    "smilat_smis_total",
    "smilat_smis_sampled_total",
    "smilat_smis_in_gaps_total",
    "smilat_smi_readings_failed_total",
    // Where no hypervisor owns up to it.
    "smilat_steal_sampled_seconds_total",
    "smilat_steal_in_gaps_seconds_total",
    // Of the kernel's tracers.
    "smilat_noise_floor_seconds",
    // Without the option.
    "smilat_hardlimit_seconds",
    "smilat_bpf_runs_total",
    "smilat_bpf_run_seconds_total",
    "smilat_recording_snapshots_lost_total",
];

#[test]
fn the_metrics_that_are_documented_are_those_that_are_served() {
    let documented = documented("docs/metrics.md", 1);
    for name in OPTIONAL {
        assert!(documented.contains(name), "{name} is optional and nowhere");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let record = format!("--record={}", folder.path().join("gaps.ndjson").display());
    // With all options first: what is absent then is the machine's doing.
    for options in [
        &["--bpf-stats", "--hardlimit=1s", &record, "--interval=200ms"][..],
        &["--counter=none", "--interval=200ms"],
    ] {
        let serving = Serving::start(&[options, &["--output=/dev/null"]].concat());
        serving.ready();
        let metrics = serving.metrics();
        let served: BTreeSet<String> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .map(str::to_owned)
            .collect();
        for name in &served {
            assert!(documented.contains(name), "{name} is documented nowhere");
        }
        for name in documented.difference(&served) {
            assert!(OPTIONAL.contains(&name.as_str()), "{name} is not served");
        }
        if options.contains(&"--bpf-stats") {
            for name in [
                "smilat_hardlimit_seconds",
                "smilat_bpf_runs_total",
                "smilat_recording_snapshots_lost_total",
            ] {
                assert!(served.contains(name), "{name} is not served on request");
            }
        } else {
            assert!(!served.iter().any(|name| name.starts_with("smilat_smi")));
            assert!(!served.contains("smilat_recording_snapshots_lost_total"));
        }
        assert!(serving.stop().success());
    }
}

/// The names of metrics in `text`, but for those that rules record.
fn used(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("smilat_"))
        .map(str::to_owned)
        .collect()
}

#[track_caller]
fn all_known(path: &str, used: &BTreeSet<String>) {
    let known = known();
    assert!(used.len() > 10, "{path} uses {used:?}");
    for name in used {
        let family = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .filter(|family| family.ends_with("_duration_seconds"));
        assert!(
            known.contains(family.unwrap_or(name)),
            "{path}: there is no {name}"
        );
    }
}

#[test]
fn pushes_have_the_names_of_scrapes() {
    let scraped = documented("docs/metrics.md", 1);
    for name in documented("docs/otlp.md", 3) {
        assert!(
            scraped.contains(&name) || name.starts_with("smilat_push_"),
            "{name} is in docs/otlp.md only"
        );
    }
}

#[test]
fn rules_use_metrics_that_exist() {
    for path in [
        "deploy/prometheus/smilat.rules.yml",
        "deploy/prometheus/smilat.test.yml",
    ] {
        all_known(path, &used(&text(path)));
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/grafana/smilat.json")).expect("JSON")
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("panels")
}

fn targets(dashboard: &Value) -> impl Iterator<Item = &Value> {
    panels(dashboard)
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
}

fn expressions(dashboard: &Value) -> Vec<&str> {
    targets(dashboard)
        .map(|target| target["expr"].as_str().expect("an expression"))
        .collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist_in_words_that_prometheus_knows() {
    let dashboard = dashboard();
    let all = expressions(&dashboard);
    all_known("deploy/grafana/smilat.json", &used(&all.join(" ")));
    let rules: Vec<Value> = all
        .iter()
        .enumerate()
        .map(|(number, expr)| {
            let expr = expr
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h")
                .replace("$instance", ".*");
            assert!(!expr.contains('$'), "an unknown variable: {expr}");
            json!({"record": format!("panel:{number}"), "expr": expr})
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("panels.yml");
    // JSON is YAML.
    let groups = json!({"groups": [{"name": "panels", "rules": rules}]});
    fs::write(&file, groups.to_string()).expect("write");
    promtool(&["check", "rules"], &[file]);
}

/// Grafana's `$__rate_interval` is four times this, or four times the data source's scrape interval, usually 15 s, which
/// pushes once a minute leave empty.
#[test]
fn the_dashboard_has_room_for_two_pushes_in_each_rate() {
    let dashboard = dashboard();
    let mut rates = 0;
    for target in targets(&dashboard) {
        let expr = target["expr"].as_str().expect("an expression");
        if expr.contains("$__rate_interval") {
            rates += 1;
            assert_eq!(target["interval"], "1m", "{expr}");
        }
    }
    assert!(rates > 10, "{rates}");
}

#[test]
fn the_dashboard_can_be_imported_anywhere() {
    let dashboard = dashboard();
    for key in ["title", "uid", "schemaVersion", "templating", "time"] {
        assert!(!dashboard[key].is_null(), "no {key}");
    }
    // Grafana gives it an id of its own.
    assert!(dashboard["id"].is_null());
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .filter_map(|variable| variable["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "instance"]);
    for target in targets(&dashboard) {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{target}");
    }
    let mut ids = BTreeSet::new();
    let mut taken = BTreeMap::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64().expect("an id")),
            "{title}: its id is used twice"
        );
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            let words = panel["description"].as_str().unwrap_or_default();
            assert!(words.len() > 20, "{title} does not say what it shows");
        }
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                let other = taken.insert((x, y), title);
                assert!(other.is_none(), "{title} lies on {other:?}");
            }
        }
    }
}

#[test]
fn the_manifest_is_what_kubernetes_takes() {
    let checked = output(
        Command::new(from_env("SMILAT_PYTHON"))
            .args(["-m", "kubernetes_validate", "--strict"])
            .arg(project("deploy/kubernetes/daemonset.yaml")),
    );
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &stderr(&checked);
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("daemonset/smilat"), "{said}");
}

/// The elements of the manifest's list that begins after the line `after`.
fn list(after: &str) -> Vec<String> {
    text("deploy/kubernetes/daemonset.yaml")
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != after)
        .skip(1)
        .filter(|line| !line.starts_with('#'))
        .map_while(|line| line.strip_prefix("- "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn neither_long_intervals_nor_many_clients_end_a_pod() {
    let manifest = text("deploy/kubernetes/daemonset.yaml");
    let probe = |name: &str| {
        let mut lines = manifest.lines().map(str::trim);
        lines.find(|line| *line == name)?;
        lines.next()
    };
    assert_eq!(probe("livenessProbe:"), Some("tcpSocket:"));
    assert_eq!(probe("readinessProbe:"), Some("httpGet:"));
    assert_eq!(probe("startupProbe:"), None, "it waits for an interval");
}

/// What the manifest gives root, without Kubernetes: its capabilities, and no more to be had.
#[test]
fn the_capabilities_of_the_manifest_are_enough_and_needed() {
    let names: Vec<String> = list("add:")
        .iter()
        .map(|name| name.to_lowercase())
        .collect();
    assert_eq!(list("drop:"), ["ALL"]);
    assert!(names.contains(&"bpf".to_owned()), "{names:?}");
    let args = list("args:");
    let args = args.iter().filter(|arg| {
        // What is told and where is the test's.
        !["--listen", "--output", "--interval"]
            .iter()
            .any(|other| arg.starts_with(other))
    });
    let args: Vec<&String> = args.collect();
    assert_eq!(args[0], "run");
    are_enough_and_needed(&names, |names| {
        let set = set(names);
        output(
            Command::new("setpriv")
                .arg("--no-new-privs")
                .args([format!("--inh-caps={set}"), format!("--bounding-set={set}")])
                .arg(smilat_path())
                .args(&args)
                .args(["--listen=127.0.0.1:0", "--format=ndjson", "--duration=2s"])
                .args(["--threshold=1us", "--width=50ms", "--mode=per-cpu"]),
        )
    });
}

#[test]
fn the_options_in_the_manifest_are_options() {
    let manifest = text("deploy/kubernetes/daemonset.yaml");
    let options: BTreeSet<&str> = manifest
        .lines()
        .filter_map(|line| {
            line.trim_start()
                .trim_start_matches("# ")
                .strip_prefix("- --")
        })
        .filter_map(|option| option.split('=').next())
        .collect();
    assert!(
        options.contains("listen") && options.contains("otlp"),
        "{options:?}"
    );
    let help = output(tests::smilat().args(["run", "--help"]));
    let help = String::from_utf8_lossy(&help.stdout);
    for option in options {
        assert!(
            help.contains(&format!("--{option} ")) || help.contains(&format!("--{option}\n")),
            "there is no --{option}"
        );
    }
}
