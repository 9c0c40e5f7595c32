//! Who asks, and what was seen of them.

use std::sync::Arc;

use super::factor::FactorUse;
use super::user::{GroupName, UserName};
use crate::base::ids::{SessionId, UserId};

/// The result of looking at a request's credentials. A credential that is there and bad is
/// neither of these: it is an error, so that it can never fall through to `Anonymous`.
#[derive(Clone, Debug)]
pub enum Authn {
    Anonymous,
    Known(Arc<AuthnContext>),
}

/// A signed-in person and the evidence behind the id they presented.
#[derive(Clone, Debug)]
pub struct AuthnContext {
    pub user: UserId,
    pub name: UserName,
    pub display: String,
    pub email: Option<String>,
    pub groups: Vec<GroupName>,
    pub session: SessionId,
    /// Whether the account ever had a second factor, also one that was removed since.
    pub ever_enrolled: bool,
    /// Which factor, when. Never what it amounts to.
    pub evidence: Vec<FactorUse>,
}

impl Authn {
    #[must_use]
    pub fn known(&self) -> Option<&Arc<AuthnContext>> {
        match self {
            Self::Anonymous => None,
            Self::Known(context) => Some(context),
        }
    }
}
