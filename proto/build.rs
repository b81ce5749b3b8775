//! Compiles the schema without a system `protoc`: the types, and the shapes that frames
//! are held against before any of those types is built.

use std::{
    env,
    error::Error,
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// How often each repeated field may stand: the name of a bound in `limits.rs`. A field
/// that is missing here does not compile.
const REPEATED: [(&str, &str); 10] = [
    ("JobProbe.renditions", "MAX_RENDITIONS"),
    ("MasterPlaylist.renditions", "MAX_RENDITIONS"),
    ("Nack.chunks", "MAX_CHUNKS"),
    ("NodeAddresses.addresses", "MAX_ADDRESSES"),
    ("NodeStatus.streams", "MAX_STATUS_STREAMS"),
    ("ReceiptList.receipts", "MAX_RECEIPTS"),
    ("Redirect.nodes", "MAX_REDIRECT_NODES"),
    ("SubAck.path", "MAX_PATH"),
    ("TranscodeClaim.addresses", "MAX_ADDRESSES"),
    ("TranscodeResult.renditions", "MAX_RENDITIONS"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=schema/headwater.proto");
    let files = protox::compile(["schema/headwater.proto"], ["schema"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("shapes.rs"), shapes(&files)?)?;
    prost_build::Config::new()
        .bytes(["."])
        .skip_protoc_run()
        .compile_fds(files)?;
    Ok(())
}

/// Writes a table of the fields of each message.
fn shapes(files: &FileDescriptorSet) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for message in files.file.iter().flat_map(|file| &file.message_type) {
        let name = constant(message.name());
        writeln!(text, "pub(super) static {name}: Shape = Shape(&[")?;
        for (index, field) in message.field.iter().enumerate() {
            write!(text, "    Field {{ number: {}, ", field.number())?;
            write!(text, "name: {:?}, kind: {}, ", field.name(), kind(field))?;
            let (group, max) = (group(message, index), max(message, field));
            writeln!(text, "group: {group}, max: {max} }},")?;
        }
        writeln!(text, "]);")?;
    }
    Ok(text)
}

/// The members of a oneof count together.
fn group(message: &DescriptorProto, index: usize) -> usize {
    let Some(oneof) = message.field[index].oneof_index else {
        return index;
    };
    let first = |field: &FieldDescriptorProto| field.oneof_index == Some(oneof);
    message.field.iter().position(first).unwrap_or(index)
}

fn max(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    if field.label() != Label::Repeated {
        return "1".to_owned();
    }
    let name = format!("{}.{}", message.name(), field.name());
    let found = REPEATED.iter().find(|(known, _)| *known == name);
    let (_, limit) = found.unwrap_or_else(|| panic!("{name} is repeated and has no bound"));
    format!("limits::{limit}")
}

fn kind(field: &FieldDescriptorProto) -> String {
    const SCALARS: [(Type, &str); 6] = [
        (Type::Bool, "Varint"),
        (Type::Uint32, "Varint"),
        (Type::Uint64, "Varint"),
        (Type::Fixed64, "Fixed64"),
        (Type::Bytes, "Bytes"),
        (Type::String, "Bytes"),
    ];
    if field.r#type() == Type::Message {
        let inner = field.type_name().rsplit('.').next().unwrap_or_default();
        return format!("Kind::Message(&{})", constant(inner));
    }
    let found = SCALARS.iter().find(|(kind, _)| *kind == field.r#type());
    let (_, kind) = found.unwrap_or_else(|| panic!("{}: a type unknown here", field.name()));
    format!("Kind::{kind}")
}

/// `NodeStatus` as `NODE_STATUS`.
fn constant(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.chars().enumerate() {
        if at > 0 && letter.is_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}
