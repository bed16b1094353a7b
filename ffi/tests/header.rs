//! include/tidegate.h is what cbindgen makes of the sources, and the symbols are the committed list.
//!
//! After a change of the C API: `TIDEGATE_WRITE_HEADER=1 cargo test --release -p tidegate-ffi --test header`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Set: write the files instead of comparing them.
const WRITE: &str = "TIDEGATE_WRITE_HEADER";

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn header() -> String {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_crate(here(""))
        .with_config(config)
        .generate()
        .expect("the sources are read");
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).expect("UTF-8");
    // Rust's own section for unsafe functions: in C every function is one.
    let mut lines = Vec::new();
    let mut skipping = false;
    for line in made.lines() {
        let text = line.trim_start();
        if text == "* # Safety" {
            skipping = true;
            // The empty line before it.
            if lines.last().is_some_and(|last: &String| last.trim() == "*") {
                lines.pop();
            }
        } else if text.starts_with("*/") {
            skipping = false;
        }
        if !skipping {
            lines.push(line.to_string());
        }
    }
    for line in &mut lines {
        // A macro that is a negative number must hold together where it is used.
        if let Some((name, number)) = line
            .strip_prefix("#define ")
            .and_then(|d| d.split_once(" -"))
        {
            *line = format!("#define {name} (-{number})");
        }
    }
    lines.join("\n") + "\n"
}

/// Every exported symbol, as the header declares it.
fn symbols(header: &str) -> String {
    let names: BTreeSet<&str> = header
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .zip(header.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|(word, with_end)| word.starts_with("tg_") && with_end.ends_with('('))
        .map(|(word, _)| word)
        .chain(["tg_abi"])
        .filter(|name| declares(header, name))
        .collect();
    names.into_iter().map(|name| format!("{name}\n")).collect()
}

/// True when `name` is declared, not only mentioned in a comment.
fn declares(header: &str, name: &str) -> bool {
    header.lines().any(|line| {
        let code = line.trim_start();
        !code.starts_with('*')
            && !code.starts_with("/*")
            && !code.contains("static inline")
            && (code.contains(&format!("{name}(")) || code.ends_with(&format!(" {name};")))
    })
}

fn compare(path: &str, made: &str) {
    let path = here(path);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, made).expect("written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed == made {
        return;
    }
    let different = committed
        .lines()
        .zip(made.lines())
        .position(|(old, new)| old != new)
        .unwrap_or(committed.lines().count().min(made.lines().count()));
    panic!(
        "{} is not what the sources make, from line {} on: {WRITE}=1 cargo test --release -p tidegate-ffi --test header",
        path.display(),
        different + 1
    );
}

#[test]
fn the_header_is_what_the_sources_make() {
    compare("../include/tidegate.h", &header());
}

#[test]
fn the_symbols_are_the_committed_list() {
    let symbols = symbols(&header());
    assert!(symbols.lines().count() > 20, "{symbols}");
    compare("symbols.txt", &symbols);
}
