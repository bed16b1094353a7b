//! What the dynamic linker has to know of the shared library.
//!
//! Its name is `libtidegate.so.` and the major version: a program looks for that file, so an installation of another major version does
//! not come in its way. And it stays in memory after dlclose(): threads of a client that still lives, and what OpenSSL and the
//! threads' ends have registered to be called, would lead into nothing.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |name| std::env::var(name).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" {
        println!(
            "cargo:rustc-cdylib-link-arg=-Wl,-soname,libtidegate.so.{}",
            target("CARGO_PKG_VERSION_MAJOR")
        );
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
