//! Temporary.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{disks, mapper::Mapper};

fn show(text: &[u8]) {
    for line in String::from_utf8_lossy(text).lines() {
        println!("    {}", &line[..line.len().min(3000)]);
    }
}

pub(super) fn smoke() {
    for args in [&["iommu", "tree"][..], &["iommu", "boot"]] {
        let out = Command::new("/bin/smilat")
            .args(args)
            .output()
            .expect("runs");
        show(&out.stdout);
        show(&out.stderr);
    }
    for format in ["text", "ndjson"] {
        let child = Command::new("/bin/smilat")
            .args([
                "iommu",
                "--interval=1s",
                "--duration=6s",
                "--format",
                format,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        thread::sleep(Duration::from_secs(2));
        disks::read(&disks::virtio(), 32);
        let mapper = Mapper::attach();
        println!("    {:?}", mapper.run("pieces 2097152 4096 2"));
        println!("    {:?}", mapper.run("whole 65536 100"));
        drop(mapper);
        let out = child.wait_with_output().expect("ends");
        show(&out.stdout);
        show(&out.stderr);
    }
}
