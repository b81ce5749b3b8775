//! Files that outlast a power cut.

use std::{fs::File, io, path::Path};

/// Makes a new file's name as lasting as what is in it.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
