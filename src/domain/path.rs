//! The path that is judged is the path that is forwarded: parse or refuse.

/// How an app reads paths: `paths: { like, allow }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PathForms {
    pub like: Option<Like>,
    pub allow_encoded_slash: bool,
    pub allow_path_params: bool,
    pub allow_double_slash: bool,
}

/// The app's own reading of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Like {
    Unix,
    Iis,
    Tomcat,
    Php,
}

/// A request path in the one form that is both judged and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    forwarded: Box<str>,
}

/// Why a path was refused; the answer is 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path does not start with a slash")]
    NoLeadingSlash,
}

impl CanonicalPath {
    /// The bytes that are forwarded, without the query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.forwarded
    }

    pub fn parse(path: &str, _forms: PathForms) -> Result<Self, PathError> {
        if !path.starts_with('/') {
            return Err(PathError::NoLeadingSlash);
        }
        Ok(Self { forwarded: path.into() })
    }
}
