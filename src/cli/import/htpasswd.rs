//! A file of Apache's `htpasswd`, as nginx, oauth2-proxy and many others read it.

use super::people::{Found, People};
use crate::base::secret::Secret;

/// Adds everybody that the file names: NAME:HASH, a line each; `#` begins a comment. What follows a second colon
/// belongs to other programs.
pub fn read(text: &str, people: &mut People) {
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once(':').unwrap_or((line, ""));
        let hash = rest.split(':').next().unwrap_or_default();
        let hash = (!hash.is_empty()).then(|| Secret::new(hash.to_owned()));
        people.found.push(Found { name: name.to_owned(), hash, ..Found::default() });
    }
}
