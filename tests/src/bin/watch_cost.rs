//! What it costs to have smilat watch this machine: a JSON object a line, for `cargo xtask bench watching`.

use tests::watch_cost::{WAYS, smilat};

fn main() {
    for way in WAYS {
        println!("{}", smilat(way));
    }
}
