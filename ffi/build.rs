//! The shared library's name for the dynamic linker: `libtidegate.so.` and the major version. A program looks for that file, so an
//! installation of another major version does not come in its way.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |name| std::env::var(name).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" {
        println!(
            "cargo:rustc-cdylib-link-arg=-Wl,-soname,libtidegate.so.{}",
            target("CARGO_PKG_VERSION_MAJOR")
        );
    }
}
