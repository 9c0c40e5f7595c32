//! `postures`: which levels ask for more, and what a lockdown leaves open.

use std::sync::Arc;

use super::levels::requirement;
use super::rules::asks_for_less;
use super::{Context, Source, who};
use crate::config::fault::did_you_mean;
use crate::config::yaml::Node;
use crate::domain::level::{Level, LevelName};
use crate::domain::policy::Who;
use crate::domain::policy::lockdown::{Closed, Postures};

pub(super) fn postures(context: &mut Context<'_>, main: &Source) -> Postures {
    let node = main.root.get("postures");
    let of = |posture: &str| node.and_then(|n| n.get(posture));
    let allow_node = of("lockdown").and_then(|n| n.get("allow"));
    let allow = who(allow_node.map(Node::items).unwrap_or_default());
    if let Some(node) = allow_node.filter(|_| allow.contains(&Who::Anyone)) {
        let message = "`anyone` in a lockdown: it would close nothing";
        context.report.fault_with(&main.name, node.at, message, "name those who work on the incident".to_owned());
    }
    let say = of("lockdown").and_then(|n| n.get("say")).and_then(Node::text);
    Postures {
        elevated: levels(context, main, of("elevated")),
        lockdown: levels(context, main, of("lockdown")),
        closed: Arc::new(Closed::new(allow, say)),
    }
}

/// Levels that stand in the place of others: of the same name, or nothing would ask for them.
fn levels(context: &mut Context<'_>, main: &Source, posture: Option<&Node>) -> Vec<Arc<Level>> {
    let mut all = Vec::new();
    for entry in posture.and_then(|n| n.get("levels")).map(Node::entries).unwrap_or_default() {
        if !context.levels.iter().any(|level| level.name.as_str() == entry.key) {
            let known = context.levels.iter().map(|l| l.name.as_str());
            let hint = did_you_mean(&entry.key, known.clone())
                .unwrap_or_else(|| format!("levels: {}", known.collect::<Vec<_>>().join(", ")));
            let message = format!("a posture changes levels that there are, and there is no level {:?}", entry.key);
            context.report.fault_with(&main.name, entry.key_at, message, hint);
            continue;
        }
        if let Some(requirement) = requirement(context, main, entry) {
            let normal = context.levels.iter().find(|level| level.name.as_str() == entry.key);
            if normal.is_some_and(|normal| asks_for_less(&requirement, &normal.requirement)) {
                let message = format!("in this posture the level `{}` asks for less than otherwise", entry.key);
                let hint = "a posture is for more care: ask for as many factors, as fresh and of the same kinds";
                context.report.warn_with(&main.name, entry.key_at, message, hint.to_owned());
            }
            if let Some(grace) = entry.node.get("grace") {
                let message = format!("a posture is for more care: the level `{}` has no grace in it", entry.key);
                context.report.fault(&main.name, grace.at, message);
            }
            all.push(Arc::new(Level { name: LevelName::new(&entry.key), requirement, grace: None }));
        }
    }
    all
}
