//! `smilat run --record` on disks that are full, stand still, or take nothing at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use smi_user::recording::Remark;
use tests::{
    output,
    recording::{Recorded, Run, files, lines_by_jq},
    refused, smilat, stderr, wait_until,
};

/// As often as it can say something: for tests that are about what is lost. 64 snapshots wait for the disk, which are soon
/// too many.
const FAST: &str = "--interval=10ms";

/// A file system of its own, until this is dropped.
struct Mount(PathBuf);

impl Mount {
    #[track_caller]
    fn new(folder: &Path, args: &[&str]) -> Self {
        let at = folder.join("disk");
        fs::create_dir(&at).expect("a folder");
        let mounted = output(Command::new("mount").args(args).arg(&at));
        assert!(mounted.status.success(), "{}", stderr(&mounted));
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A file system on which nothing can be written, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    #[track_caller]
    fn new(at: &Path) -> Self {
        let done = output(Command::new("fsfreeze").arg("--freeze").arg(at));
        assert!(done.status.success(), "{}", stderr(&done));
        Self(at.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _thawed = Command::new("fsfreeze")
            .arg("--unfreeze")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_full_disk_costs_only_what_it_has_no_room_for() {
    fill_disk("64MiB");
}

#[test]
fn a_disk_that_is_full_when_a_file_is_put_aside_costs_no_more() {
    fill_disk("64KiB");
}

fn fill_disk(rotate_size: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Mount::new(folder.path(), &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]);
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; 768 << 10]).expect("written");
    let path = disk.0.join("gaps.ndjson");
    let mut run = Run::start(
        folder.path(),
        &[FAST, "--rotate-keep=9999", "--rotate-size", rotate_size],
        &path,
    );
    run.wait_for_message("No space left on device");
    assert!(
        run.said().contains("the collection goes on"),
        "{}",
        run.said()
    );
    run.wait_for_intervals(20);
    // Every line that is there is whole, while the disk is full.
    wait_until("whole lines", || Recorded::read(&path).torn == 0);
    fs::remove_file(&ballast).expect("removed");
    run.wait_for_message("can be written again");
    run.wait_for_intervals(5);
    assert_eq!(run.end(libc::SIGINT).code(), Some(2), "{}", run.said());

    let recorded = Recorded::read(&path);
    let reported = run.reported();
    assert_eq!(recorded.torn, 0);
    assert_eq!(
        reported.last().map(|last| last.interval),
        Some(reported.len() as u64)
    );
    let lost = reported.len() - recorded.snapshots.len();
    assert!(lost >= 20, "{lost} lost");
    let said = run.said();
    assert!(
        said.contains(&format!(
            "{lost} of {} snapshots are missing",
            reported.len()
        )),
        "{said}"
    );
    // The disk may have been full more than once, and each time is remarked.
    let remarked: u64 = recorded
        .remarks
        .iter()
        .map(|remark| match remark {
            Remark::SnapshotsMissing { after, before, .. } => before - after - 1,
            other => panic!("{other}"),
        })
        .sum();
    assert_eq!(remarked, lost as u64);
    for (_, snapshot) in &recorded.snapshots {
        let same = &reported[snapshot.interval as usize - 1];
        assert!(snapshot == same, "interval {} differs", snapshot.interval);
    }
    let lines: usize = files(&path).iter().map(|file| lines_by_jq(file)).sum();
    assert_eq!(lines, recorded.snapshots.len() + recorded.headers);
}

#[test]
fn a_disk_that_stands_still_delays_nothing_but_the_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    File::create(&image)
        .expect("a file")
        .set_len(16 << 20)
        .expect("a length");
    assert!(
        output(Command::new("mkfs.ext4").arg("-q").arg(&image))
            .status
            .success()
    );
    let disk = Mount::new(folder.path(), &["-o", "loop", &image.to_string_lossy()]);
    let path = disk.0.join("gaps.ndjson");
    let mut run = Run::start(folder.path(), &[FAST], &path);
    run.wait_for_intervals(5);
    // Thawed before the run is waited for, whatever fails in between: a process that waits for the disk cannot be killed.
    let frozen = Frozen::new(&disk.0);
    run.wait_for_message("does not keep up");
    run.wait_for_intervals(20);
    drop(frozen);
    run.wait_for_intervals(5);
    assert_eq!(run.end(libc::SIGINT).code(), Some(2), "{}", run.said());
    let recorded = Recorded::read(&path);
    let reported = run.reported();
    let lost = reported.len() - recorded.snapshots.len();
    assert!(lost >= 20, "{lost} lost");
    let told = format!("{lost} of {} snapshots are missing", reported.len());
    assert!(run.said().contains(&told), "{}", run.said());
    assert_eq!(recorded.torn, 0);
    assert!(recorded.snapshots.last().is_some_and(|(_, last)| last.last));
}

#[test]
fn where_nothing_can_be_recorded_nothing_is_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Mount::new(folder.path(), &["-t", "tmpfs", "-o", "ro", "tmpfs"]);
    let record = |path: &Path, told: &[&str]| {
        refused(smilat().args(["run", "--record"]).arg(path), told);
    };
    record(
        &disk.0.join("gaps"),
        &["cannot record to", "Read-only file system"],
    );
    record(
        Path::new("/no/such/folder/gaps"),
        &["cannot record to /no/such/folder/gaps", "No such file"],
    );
    record(Path::new("/dev/full"), &["no regular file"]);
    record(folder.path(), &["no regular file"]);
    let foreign = folder.path().join("letters.txt");
    fs::write(&foreign, "Dear Ada,\n").expect("written");
    record(&foreign, &["no recording of smilat", "move this one away"]);
    assert_eq!(fs::read_to_string(&foreign).expect("read"), "Dear Ada,\n");
    // Nor is anything left by a run that fails for another reason.
    let path = folder.path().join("gaps");
    refused(
        smilat()
            .args(["run", "--output=/no/such/folder/file", "--record"])
            .arg(&path),
        &["cannot write to /no/such/folder/file"],
    );
    assert!(files(&path).is_empty());
}
