//! Can the gateway for text messages be reached? Connects; nothing is sent, so its login is not tried.

use super::Finding;
use crate::cli::sms::lacks_secret;
use crate::config::Snapshot;
use crate::notify::sms::{self, GatewayError};

pub(super) async fn examine(snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let Some(settings) = &snapshot.sms else { return };
    let about = format!("SMS gateway {}", settings.url.authority);
    if lacks_secret(settings) {
        let what = "a secret of it cannot be read by this account";
        findings.push(Finding::warning(about.clone(), what, "run the doctor as the gate's own account"));
    }
    match sms::reach(settings).await {
        Ok(()) => {
            let how = if settings.url.https { "over TLS" } else { "in clear" };
            let what =
                format!("it can be reached {how}; `stepgate sms test NUMBER` sends a message, and tries the login");
            findings.push(Finding::fine(about, what));
        }
        Err(error) => {
            let todo = match error {
                GatewayError::Private(_) => "say `private: true` where the gateway is one of your own network",
                GatewayError::Tls(_) | GatewayError::Roots { .. } => {
                    "its certificate must be for the host of `sms.url`, of a known authority or that of `sms.ca`"
                }
                _ => "look at `sms.url`, the name service and the firewall",
            };
            findings.push(Finding::problem(about, error.to_string(), todo));
        }
    }
}
