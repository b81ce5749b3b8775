//! Takes hls.js from npm, by the lock file, into the build's own folder. It runs again only
//! when the lock does: what the pages themselves are made of is read by the compiler.

use std::{env, fs, path::Path, process::Command};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    for file in ["package.json", "package-lock.json", ".npmrc"] {
        println!("cargo::rerun-if-changed=web/{file}");
        fs::copy(Path::new("web").join(file), out.join(file)).expect("web files can be copied");
    }
    let npm = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ])
        .current_dir(out)
        .status();
    match npm {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("npm ci failed with {status}; it fetches hls.js for the player page"),
        Err(error) => panic!("npm is needed to fetch hls.js for the player page: {error}"),
    }
}
