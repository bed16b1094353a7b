//! Loom's primitives for this crate alone: with `RUSTFLAGS` every dependency would be built a second time. Miri brings a
//! scheduler of its own and cannot run loom's, so there the parts are built as they are shipped.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_MIRI").is_none() {
        println!("cargo::rustc-cfg=loom");
    }
}
