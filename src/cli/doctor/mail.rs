//! Does the relay take us? Connects and logs in; no mail is sent.

use super::Finding;
use crate::config::Snapshot;
use crate::notify::Relay;

pub(super) async fn examine(snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let Some(settings) = &snapshot.smtp else { return };
    let about = format!("mail relay {}:{}", settings.host, settings.port);
    if settings.login.as_ref().is_some_and(|login| login.password.expose().is_empty()) {
        let what = "not tried: its password cannot be read by this account";
        findings.push(Finding::warning(about, what, "run the doctor as the gate's own account"));
        return;
    }
    match Relay::connect(settings).await {
        Ok(relay) => {
            let how = if relay.is_encrypted() { "over TLS" } else { "in clear" };
            let login = if settings.login.is_some() { " and takes the login" } else { "" };
            relay.quit().await;
            let what = format!("it answers {how}{login}; `stepgate mail test ADDRESS` sends one");
            findings.push(Finding::fine(about, what));
        }
        Err(error) => {
            findings.push(Finding::problem(about, error.to_string(), error.remedy()));
        }
    }
}
