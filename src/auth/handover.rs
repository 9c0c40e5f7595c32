//! How does a session get from the portal to an app's host? By a code that works once, for one
//! host, in the one browser that was sent away from there (S-LOGIN-8).

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use super::error::AuthError;
use super::return_to::{ReturnTo, fragment as safe_fragment, nonce_hash};
use super::{Auth, Visit};
use crate::base::ids::SessionId;
use crate::base::rng;
use crate::crypto::sha256;
use crate::domain::factor::FactorUse;
use crate::domain::host::HostName;
use crate::domain::portal::PortalRoute;
use crate::session::SessionToken;
use crate::session::issue;
use crate::store::{HandoverRow, Tx, Unaudited};

/// A code crosses one redirect; a minute is for slow phones.
pub const HANDOVER_LIFE: Duration = Duration::from_secs(60);

/// Where to send the browser, the code in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    location: String,
}

/// A hand-over that worked: the host's own id for the session.
#[derive(Debug)]
pub struct Arrived {
    pub token: SessionToken,
    pub session: SessionId,
    /// Path, query and fragment on this host.
    pub target: String,
}

impl Offer {
    /// The `Location` on the app's host. It holds the code: never log it (S-LOG-1).
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offer")
    }
}

impl Auth {
    /// Makes a code for the host of `back`, within `tx`.
    pub(super) async fn offer_handover(
        &self,
        tx: &mut Tx,
        visit: &Visit<'_>,
        session: SessionId,
        evidence: &[FactorUse],
        back: &ReturnTo,
        fragment: Option<&str>,
    ) -> Result<Offer, AuthError> {
        let code = BASE64URL_NOPAD.encode(&rng::bytes::<32>(&*self.rng));
        let mut target = back.landing();
        if let Some(fragment) = fragment.and_then(safe_fragment).filter(|_| target == back.path_and_query) {
            target.push('#');
            target.push_str(&fragment);
        }
        tx.insert_handover(&HandoverRow {
            code_hash: sha256(code.as_bytes()),
            session,
            host: back.host.as_str().to_owned(),
            nonce_hash: back.nonce_hash,
            evidence: evidence.to_vec(),
            target,
            expires_at: visit.now.plus(HANDOVER_LIFE),
        })
        .await?;
        Ok(Offer { location: format!("{}{}?code={code}", back.origin(), PortalRoute::Handover.path()) })
    }

    /// Claims a code on `host` for the browser that holds one of these nonces, and gives the host its own id
    /// with the evidence that was handed over. An id that the browser has there for the same session
    /// is superseded; another session's is just replaced in the browser. `None` for every failure:
    /// used, too old, another host, another browser.
    pub async fn arrive(
        &self,
        visit: &Visit<'_>,
        host: &HostName,
        code: &str,
        nonces: &[&str],
        presented: Option<&SessionToken>,
    ) -> Result<Option<Arrived>, AuthError> {
        let hash = sha256(code.as_bytes());
        // Read before the transaction: a read inside would wait for the lock that it holds.
        let mut old = None;
        if let Some(token) = presented {
            old = self.store.load_token(&token.hash()).await?.map(|(row, ..)| (row.session, token));
        }
        let nonces: Vec<_> = nonces.iter().map(|nonce| nonce_hash(nonce)).collect();
        let mut tx = self.store.begin().await?;
        let Some(row) = tx.claim_handover(&hash, host.as_str(), &nonces, visit.now).await? else {
            // Committed: a code that came to the wrong browser is used up.
            tx.commit_unaudited(Unaudited::HostToken).await?;
            return Ok(None);
        };
        let old = old.filter(|(session, _)| *session == row.session).map(|(_, token)| token);
        let token =
            issue::token_for_host(&mut tx, row.session, old, host, &row.evidence, visit.now, &*self.rng).await?;
        // A session that ended meanwhile stays ended: its new id leads nowhere.
        tx.commit_unaudited(Unaudited::HostToken).await?;
        Ok(Some(Arrived { token, session: row.session, target: row.target }))
    }
}
