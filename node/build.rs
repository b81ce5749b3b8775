//! Takes hls.js from npm, by the lock file, into the build's own folder.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash as _, Hasher as _},
    path::Path,
    process::Command,
};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    let mut hasher = DefaultHasher::new();
    println!("cargo::rerun-if-changed=web");
    let entries = fs::read_dir("web").expect("the web folder is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("the web folder can be read").path())
        .collect();
    // In any order the tag is the same.
    paths.sort();
    for path in paths {
        if path.is_file() {
            println!("cargo::rerun-if-changed={}", path.display());
            fs::read(&path)
                .expect("web files can be read")
                .hash(&mut hasher);
        }
    }
    println!("cargo::rustc-env=ASSETS_TAG={:x}", hasher.finish());
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
