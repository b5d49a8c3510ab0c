//! `cargo xtask test package`: the Debian package is made, and put into a fresh Debian and out of it again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{dist, run, sh};

/// The Debian that it must go into: the oldest whose kernel and libc do.
const SUITE: &str = "bookworm";
/// Where apt takes it from when this machine's own lists do not say.
const MIRROR: &str = "http://deb.debian.org/debian";
/// The worst score that `systemd-analyze security` may give the unit: above 3 it calls one "MEDIUM" soon.
const MAX_EXPOSURE: f64 = 3.0;
/// Files that the package must bring.
const BROUGHT: [&str; 9] = [
    "/usr/bin/smilat",
    "/etc/smilat.toml",
    "/usr/lib/systemd/system/smilat.service",
    "/usr/share/bash-completion/completions/smilat",
    "/usr/share/doc/smilat/copyright",
    "/usr/share/fish/vendor_completions.d/smilat.fish",
    "/usr/share/man/man1/smilat-run.1.gz",
    "/usr/share/man/man1/smilat.1.gz",
    "/usr/share/zsh/vendor-completions/_smilat",
];
/// What dpkg writes down for itself, and what is not the system's own.
const NOT_COMPARED: [&str; 5] = [
    "./var/lib/dpkg",
    "./var/log",
    "./var/cache",
    "./tmp",
    "./proc",
];

/// Runs all of it.
pub(crate) fn test() -> Result<()> {
    let smilat = run::build()?;
    let documents = dist::documents(&smilat)?;
    manual(&documents.join("man"))?;
    let folder = sh::root().join("target/package");
    fs::create_dir_all(&folder)?;
    unit(&smilat, &folder)?;
    let package = dist::deb("release", &folder, &["--fast"])?;
    let root = FreshRoot::unpack(&folder)?;
    let outcome = install_and_remove(&root, &package);
    root.remove()?;
    outcome?;
    println!("package: installed, used, removed and purged in a fresh Debian {SUITE}");
    Ok(())
}

/// Every page renders without a warning.
fn manual(folder: &Path) -> Result<()> {
    let mut pages = 0;
    for page in fs::read_dir(folder)? {
        let page = page?.path();
        let output = Command::new("man")
            .args(["--warnings", "--local-file"])
            .arg(&page)
            .envs([("LC_ALL", "C.UTF-8"), ("MANWIDTH", "80")])
            .output()
            .context("cannot run man")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && told.is_empty() && !output.stdout.is_empty(),
            "{} does not render: {told}",
            page.display()
        );
        pages += 1;
    }
    ensure!(pages > 1, "no manual pages in {}", folder.display());
    Ok(())
}

/// The unit is sound and keeps the service from what it does not need.
fn unit(smilat: &Path, folder: &Path) -> Result<()> {
    let unit = sh::root().join("packaging/smilat.service");
    // The program it starts is not installed here.
    let text = fs::read_to_string(&unit)?;
    let installed = "ExecStart=/usr/bin/smilat ";
    ensure!(
        text.contains(installed),
        "the unit does not start {installed}"
    );
    let here = text.replace(installed, &format!("ExecStart={} ", smilat.display()));
    let copy = folder.join("smilat.service");
    fs::write(&copy, here)?;
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&copy)
        .output()
        .context("cannot run systemd-analyze")?;
    let told = String::from_utf8_lossy(&output.stderr);
    // Units of this machine may have faults of their own.
    let faults: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("smilat"))
        .collect();
    ensure!(
        faults.is_empty(),
        "systemd-analyze verify: {}",
        faults.join("\n")
    );
    let security = sh::read(
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(&unit),
    )?;
    let verdict = security.lines().last().unwrap_or_default();
    let exposure: f64 = verdict
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .with_context(|| format!("systemd-analyze security gives no score: {verdict}"))?;
    println!("package: {}", verdict.trim_start_matches(['→', ' ']));
    ensure!(exposure < MAX_EXPOSURE, "that is above {MAX_EXPOSURE}");
    Ok(())
}

fn install_and_remove(root: &FreshRoot, package: &Path) -> Result<()> {
    let before = root.files()?;
    sh::run(
        sh::as_root("cp")?
            .arg(package)
            .arg(root.0.join("tmp/smilat.deb")),
    )?;
    root.read(&["dpkg", "--install", "/tmp/smilat.deb"])?;
    let now = root.files()?;
    for file in BROUGHT {
        ensure!(
            now.contains(&format!(".{file}")),
            "the package does not bring {file}"
        );
    }
    let links = now
        .difference(&before)
        .filter(|file| file.contains(".wants/"));
    ensure!(links.count() == 0, "installing has enabled the service");
    let version = root.read(&["smilat", "--version"])?;
    ensure!(
        version == concat!("smilat ", env!("CARGO_PKG_VERSION")),
        "{version}"
    );
    linked(root)?;
    programs_of_unit(root)?;
    // There is no /proc here, so it finds no capability: it comes as far as that, the configuration behind it.
    let told = root.refused(&["smilat", "run", "--config", "/etc/smilat.toml"])?;
    ensure!(told.contains("lacks CAP_BPF"), "{told}");
    let wrong = "/tmp/wrong.toml";
    root.read(&["sh", "-c", &format!("echo 'threshhold = 1' > {wrong}")])?;
    let told = root.refused(&["smilat", "run", "--config", wrong])?;
    ensure!(told.contains("wrong.toml:1: "), "{told}");
    let own = "# my own line";
    root.read(&["sh", "-c", &format!("echo '{own}' >> /etc/smilat.toml")])?;
    root.read(&["dpkg", "--install", "/tmp/smilat.deb"])?;
    root.read(&["grep", "-q", own, "/etc/smilat.toml"])
        .context("installing it again has overwritten the configuration")?;
    root.read(&["dpkg", "--remove", "smilat"])?;
    root.read(&["grep", "-q", own, "/etc/smilat.toml"])
        .context("removing it has taken the configuration away")?;
    root.read(&["dpkg", "--purge", "smilat"])?;
    let after = root.files()?;
    let left: Vec<&String> = after.symmetric_difference(&before).collect();
    ensure!(left.is_empty(), "not as before after purging it: {left:?}");
    Ok(())
}

/// What the README links to was brought, too.
fn linked(root: &FreshRoot) -> Result<()> {
    let folder = "/usr/share/doc/smilat";
    let readme = root.read(&["cat", &format!("{folder}/README.md")])?;
    for file in dist::links(&readme) {
        root.read(&["test", "-f", &format!("{folder}/{file}")])
            .with_context(|| format!("the README links to {file}, which is not there"))?;
    }
    Ok(())
}

/// Each program that the unit runs is there, although nothing but the essential packages is.
fn programs_of_unit(root: &FreshRoot) -> Result<()> {
    let unit = root.read(&["cat", "/usr/lib/systemd/system/smilat.service"])?;
    let programs: Vec<&str> = unit
        .lines()
        .filter(|line| line.starts_with("Exec"))
        .filter_map(|line| line.split_once('=')?.1.split_whitespace().next())
        .collect();
    ensure!(programs.len() > 1, "{programs:?}");
    for program in programs {
        root.read(&["test", "-x", program])
            .with_context(|| format!("the unit runs {program}, which is not there"))?;
    }
    Ok(())
}

/// A Debian without smilat, in a folder.
struct FreshRoot(PathBuf);

impl FreshRoot {
    /// From the cache, where debootstrap puts one first if there is none.
    fn unpack(folder: &Path) -> Result<Self> {
        let cached = sh::cache()?.join(format!("debian-{SUITE}.tar"));
        let root = Self(folder.join("root"));
        root.remove()?;
        if !cached.is_file() {
            let mirror = mirror();
            println!(
                "package: fetching Debian {SUITE} from {mirror} into {} (a minute, once)",
                cached.display()
            );
            sh::run(
                sh::as_root("debootstrap")?
                    .args(["--variant=minbase", SUITE])
                    .arg(&root.0)
                    .arg(mirror)
                    .stdout(std::process::Stdio::null()),
            )?;
            // Under another name until it is whole.
            let part = cached.with_extension("part");
            sh::run(
                sh::as_root("tar")?
                    .arg("-cf")
                    .arg(&part)
                    .arg("-C")
                    .arg(&root.0)
                    .args(["--exclude=./var/cache/apt/archives/*.deb", "."]),
            )?;
            fs::rename(&part, &cached)?;
            root.remove()?;
        }
        fs::create_dir_all(&root.0)?;
        sh::run(
            sh::as_root("tar")?
                .arg("-xf")
                .arg(&cached)
                .arg("-C")
                .arg(&root.0),
        )?;
        Ok(root)
    }

    fn remove(&self) -> Result<()> {
        sh::run(
            sh::as_root("rm")?
                .args(["-rf", "--one-file-system"])
                .arg(&self.0),
        )
    }

    fn inside(&self, command: &[&str]) -> Result<Command> {
        let mut chroot = sh::as_root("chroot")?;
        chroot
            .arg(&self.0)
            .args(command)
            .envs([("LC_ALL", "C"), ("DEBIAN_FRONTEND", "noninteractive")]);
        Ok(chroot)
    }

    /// Runs a command in it and returns what it printed.
    fn read(&self, command: &[&str]) -> Result<String> {
        sh::read(&mut self.inside(command)?)
    }

    /// Runs a command in it that must fail, and returns what it said.
    fn refused(&self, command: &[&str]) -> Result<String> {
        let output = self.inside(command)?.output()?;
        if output.status.success() {
            bail!("{command:?} did not fail");
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Every file in it.
    fn files(&self) -> Result<BTreeSet<String>> {
        let mut find = sh::as_root("find")?;
        find.arg(".").current_dir(&self.0).args(["-xdev", "("]);
        for (place, path) in NOT_COMPARED.iter().enumerate() {
            if place > 0 {
                find.arg("-o");
            }
            find.args(["-path", path]);
        }
        find.args([")", "-prune", "-o", "-print"]);
        Ok(sh::read(&mut find)?.lines().map(str::to_owned).collect())
    }
}

/// Where this machine's apt takes Debian from.
fn mirror() -> String {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        texts.extend(folder.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok()));
    }
    texts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .unwrap_or(MIRROR)
        .to_owned()
}
