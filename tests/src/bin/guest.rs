//! `/init` of the virtual machines that `cargo xtask test vm` boots.

fn main() {
    tests::guest::main();
}
