//! Whose is a file that root makes in somebody's directory?

use std::fs::File;
use std::io;
use std::path::Path;

/// Gives a file that root has just made to the owner of its directory, before anything is written
/// to it: an operator's `stepgate user add` must not leave a key ring that the gate's own account
/// cannot read. For anybody else, and in root's own directories, nothing is changed.
#[cfg(target_os = "linux")]
pub fn as_its_directory(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = std::fs::metadata(directory)?;
    match owner.uid() {
        0 => Ok(()),
        // By the open file, never by the name: the directory's owner could put a link in its place.
        uid => fchown(file, Some(uid), Some(owner.gid())),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn as_its_directory(_file: &File, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// The account of the operating system that this process runs as, which the environment cannot
/// change; its number where it has no name.
#[must_use]
pub fn own_account() -> String {
    #[cfg(target_os = "linux")]
    return account_name(nix::unistd::getuid().as_raw());
    #[cfg(not(target_os = "linux"))]
    "unknown".to_owned()
}

/// The number of that account.
#[must_use]
pub fn own_uid() -> u32 {
    #[cfg(target_os = "linux")]
    return nix::unistd::geteuid().as_raw();
    #[cfg(not(target_os = "linux"))]
    u32::MAX
}

/// The name of an account, or its number where it has none.
#[must_use]
pub fn account_name(uid: u32) -> String {
    #[cfg(target_os = "linux")]
    if let Ok(Some(user)) = nix::unistd::User::from_uid(uid.into()) {
        return user.name;
    }
    format!("uid {uid}")
}
