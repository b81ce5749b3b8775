//! Compiles the schema without a system `protoc`.

fn main() {
    println!("cargo::rerun-if-changed=schema/headwater.proto");
    let files = protox::compile(["schema/headwater.proto"], ["schema"])
        .expect("the schema in the repository compiles");
    prost_build::Config::new()
        .bytes(["."])
        .skip_protoc_run()
        .compile_fds(files)
        .expect("code for a compiled schema can be written");
}
