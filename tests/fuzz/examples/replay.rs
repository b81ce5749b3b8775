//! Writes seeds, and runs a target with files: a failure again, without a fuzzer.

use std::{env, fs, io, path::Path};

use headwater_fuzz::{TARGETS, memory, seeds};

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let what = arguments.next();
    let rest: Vec<_> = arguments.collect();
    let target = TARGETS
        .iter()
        .find(|target| what.as_deref() == Some(target.name));
    match (target, what.as_deref(), &rest[..]) {
        (Some(target), _, files) if !files.is_empty() => {
            for file in files {
                let data = fs::read(file)?;
                let (most, ()) = memory::peak(|| (target.run)(&data));
                if most > target.memory {
                    let seen = format!("{file} holds {most} bytes at a time");
                    return Err(io::Error::other(seen));
                }
            }
            Ok(())
        }
        (_, Some("seeds"), [folder]) => write_seeds(Path::new(folder)),
        _ => Err(io::Error::other(
            "usage: replay seeds FOLDER | replay TARGET FILE...",
        )),
    }
}

/// Writes the seeds of all targets, into a folder for each.
fn write_seeds(folder: &Path) -> io::Result<()> {
    for seed in seeds::all() {
        let folder = folder.join(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(seed.name), seed.data)?;
    }
    Ok(())
}
