//! When is it worth a line in the log that a request was not carried? An app that is down fails every request,
//! and a line for each buries what else there is to see: the first is said at once, of the others how many they
//! were, and in the end that it is over. The access log and the metrics have each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::base::ids::RequestId;
use crate::config::Snapshot;
use crate::domain::route::AppName;
use crate::domain::upstream::UpstreamUrl;

/// How often it is said how many more there were.
const EVERY: Duration = Duration::from_secs(30);
/// Without a further one for this long, and with an answer since, it is over. One that comes and goes would
/// else be begun and ended with each request.
const QUIET: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub enum Trouble<'a> {
    /// A request was not carried; `why` is that of the access log.
    Request { id: RequestId, why: &'static str },
    /// No connection to one address of an app.
    Connection(&'a UpstreamUrl),
}

impl Trouble<'_> {
    fn is(&self, kind: &Kind) -> bool {
        match (self, kind) {
            (Self::Request { why, .. }, Kind::Request(other)) => why == other,
            (Self::Connection(url), Kind::Connection(other)) => *url == other,
            _ => false,
        }
    }

    fn kind(&self) -> Kind {
        match *self {
            Self::Request { why, .. } => Kind::Request(why),
            Self::Connection(url) => Kind::Connection(url.clone()),
        }
    }

    fn request(&self) -> Option<RequestId> {
        match self {
            Self::Request { id, .. } => Some(*id),
            Self::Connection(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Request(&'static str),
    Connection(UpstreamUrl),
}

/// One that is not over.
#[derive(Debug)]
struct Ongoing {
    kind: Kind,
    began: Instant,
    last: Instant,
    said: Instant,
    /// Since the last line.
    unsaid: u64,
    in_all: u64,
    error: String,
    request: Option<RequestId>,
    /// The app, or the address, has answered since the last one.
    answered: AtomicBool,
}

/// What is to be said of one that was said to have begun.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Further { times: u64, within: Duration, error: String, request: Option<RequestId> },
    Over { times: u64, after: Duration },
}

/// The troubles of all apps. Bounded by the configuration: apps, their addresses, and the words of `why`.
#[derive(Debug, Default)]
pub struct Troubles {
    of: DashMap<AppName, Vec<Ongoing>>,
    /// How many there are: nearly always none, and then an answer costs one look.
    count: AtomicUsize,
}

impl Troubles {
    /// Tells what is due on the background, as long as anybody holds them.
    #[must_use]
    pub fn start(background: &Handle) -> Arc<Self> {
        let troubles = Arc::new(Self::default());
        let weak = Arc::downgrade(&troubles);
        background.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let Some(troubles) = weak.upgrade() else { return };
                for (app, kind, line) in troubles.due(Instant::now()) {
                    say(&app, &kind, &line);
                }
            }
        });
        troubles
    }

    /// Counts one, and says it if it is the first.
    pub fn note(&self, app: &AppName, trouble: Trouble<'_>, error: String) {
        let shown = error.clone();
        let is_first = self.is_first(app, trouble, error, Instant::now());
        // Who looks for one among the many finds it at another level.
        match (is_first, trouble) {
            (true, Trouble::Request { id, why }) => {
                tracing::warn!(request.id = %id, %app, why, error = shown, "a request was not carried");
            }
            (false, Trouble::Request { id, why }) => {
                tracing::debug!(request.id = %id, %app, why, error = shown, "a request was not carried");
            }
            (true, Trouble::Connection(url)) => {
                tracing::warn!(%app, upstream.address = %url, error = shown, "no connection to an app");
            }
            (false, Trouble::Connection(url)) => {
                tracing::debug!(%app, upstream.address = %url, error = shown, "no connection to an app");
            }
        }
    }

    fn is_first(&self, app: &AppName, trouble: Trouble<'_>, error: String, now: Instant) -> bool {
        let request = trouble.request();
        let mut all = self.of.entry(app.clone()).or_default();
        if let Some(ongoing) = all.iter_mut().find(|o| trouble.is(&o.kind)) {
            (ongoing.last, ongoing.error, ongoing.request) = (now, error, request);
            ongoing.unsaid += 1;
            ongoing.in_all += 1;
            ongoing.answered.store(false, Relaxed);
            return false;
        }
        let (kind, answered) = (trouble.kind(), AtomicBool::new(false));
        let (began, last, said) = (now, now, now);
        all.push(Ongoing { kind, began, last, said, unsaid: 0, in_all: 1, error, request, answered });
        self.count.fetch_add(1, Relaxed);
        true
    }

    /// An address of an app answered a request.
    pub fn answered(&self, app: &AppName, address: &UpstreamUrl) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let Some(all) = self.of.get(app) else { return };
        for ongoing in all.iter() {
            let answers = match &ongoing.kind {
                Kind::Request(_) => true,
                Kind::Connection(url) => url == address,
            };
            if answers {
                ongoing.answered.store(true, Relaxed);
            }
        }
    }

    /// Forgets what is in no file any more: nobody would hear that it is over.
    pub fn follow(&self, snapshot: &Snapshot) {
        self.of.retain(|app, all| {
            let route = snapshot.routes.iter().find(|route| route.app == *app);
            all.retain(|ongoing| {
                let stays = route.is_some_and(|route| match &ongoing.kind {
                    Kind::Request(_) => true,
                    Kind::Connection(url) => route.upstream.urls.contains(url),
                });
                if !stays {
                    self.count.fetch_sub(1, Relaxed);
                }
                stays
            });
            !all.is_empty()
        });
    }

    fn due(&self, now: Instant) -> Vec<(AppName, Kind, Line)> {
        let mut due = Vec::new();
        if self.count.load(Relaxed) == 0 {
            return due;
        }
        self.of.retain(|app, all| {
            all.retain_mut(|ongoing| {
                let since = |then: Instant| now.saturating_duration_since(then);
                let over = ongoing.answered.load(Relaxed) && since(ongoing.last) >= QUIET;
                let line = if over {
                    self.count.fetch_sub(1, Relaxed);
                    Line::Over { times: ongoing.in_all, after: ongoing.last.saturating_duration_since(ongoing.began) }
                } else if ongoing.unsaid > 0 && since(ongoing.said) >= EVERY {
                    let times = std::mem::take(&mut ongoing.unsaid);
                    let within = since(std::mem::replace(&mut ongoing.said, now));
                    Line::Further { times, within, error: ongoing.error.clone(), request: ongoing.request }
                } else {
                    return true;
                };
                due.push((app.clone(), ongoing.kind.clone(), line));
                !over
            });
            !all.is_empty()
        });
        due
    }
}

fn say(app: &AppName, kind: &Kind, line: &Line) {
    match (line, kind) {
        (Line::Further { times, within, error, request }, Kind::Request(why)) => tracing::warn!(
            %app,
            why,
            requests = times,
            seconds = within.as_secs(),
            last.error = error,
            last.request = request.map(tracing::field::display),
            "further requests were not carried"
        ),
        (Line::Further { times, within, error, .. }, Kind::Connection(url)) => tracing::warn!(
            %app,
            upstream.address = %url,
            attempts = times,
            seconds = within.as_secs(),
            last.error = error,
            "still no connection to an app"
        ),
        (Line::Over { times, after }, Kind::Request(why)) => tracing::info!(
            %app,
            why,
            requests = times,
            seconds = after.as_secs(),
            "requests to an app are carried again"
        ),
        (Line::Over { times, after }, Kind::Connection(url)) => tracing::info!(
            %app,
            upstream.address = %url,
            attempts = times,
            seconds = after.as_secs(),
            "an address of an app takes connections again"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::rng::SystemRng;
    use crate::domain::host::Scheme;

    impl std::fmt::Display for Kind {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Request(why) => f.write_str(why),
                Self::Connection(url) => url.fmt(f),
            }
        }
    }

    fn url(port: u16) -> UpstreamUrl {
        UpstreamUrl { scheme: Scheme::Http, host: "10.0.4.11".into(), port }
    }

    fn request(why: &'static str) -> Trouble<'static> {
        Trouble::Request { id: RequestId::new(Timestamp::from_secs(1), &SystemRng), why }
    }

    fn lines(troubles: &Troubles, now: Instant) -> Vec<String> {
        let told = troubles.due(now).into_iter().map(|(app, kind, line)| match line {
            Line::Further { times, within, error, .. } => {
                format!("{app} {kind}: {times} more in {} s: {error}", within.as_secs())
            }
            Line::Over { times, after } => format!("{app} {kind}: over, {times} in {} s", after.as_secs()),
        });
        told.collect()
    }

    #[test]
    fn of_an_app_that_is_down_the_first_request_is_said_then_how_many_and_then_that_it_is_well() {
        let (troubles, app) = (Troubles::default(), AppName::new("wiki"));
        let began = Instant::now();
        let at = |secs| began + Duration::from_secs(secs);
        assert!(troubles.is_first(&app, request("bad-gateway"), "refused".into(), began));
        for n in 1..100 {
            assert!(!troubles.is_first(&app, request("bad-gateway"), format!("refused {n}"), at(n / 10)));
        }
        assert!(troubles.is_first(&app, request("gateway-timeout"), "slow".into(), at(20)), "another kind");
        assert!(troubles.is_first(&AppName::new("shop"), request("bad-gateway"), "refused".into(), at(20)));
        assert!(lines(&troubles, at(29)).is_empty());
        assert_eq!(lines(&troubles, at(30)), ["wiki bad-gateway: 99 more in 30 s: refused 99"]);
        assert!(lines(&troubles, at(1000)).is_empty(), "nobody asked, so nobody knows");

        troubles.answered(&app, &url(1));
        assert!(!troubles.is_first(&app, request("bad-gateway"), "refused".into(), at(1000)), "it comes and goes");
        troubles.answered(&app, &url(1));
        let told = ["wiki bad-gateway: 1 more in 970 s: refused", "wiki gateway-timeout: over, 1 in 0 s"];
        assert_eq!(lines(&troubles, at(1000)), told);
        assert!(lines(&troubles, at(1009)).is_empty());
        assert_eq!(lines(&troubles, at(1010)), ["wiki bad-gateway: over, 101 in 1000 s"]);
        assert_eq!(troubles.count.load(Relaxed), 1, "that of the other app");
        assert!(troubles.is_first(&app, request("bad-gateway"), "refused".into(), at(1011)), "a new one");
    }

    #[test]
    fn an_address_takes_connections_again_when_it_answers_and_not_when_another_one_does() {
        let (troubles, app) = (Troubles::default(), AppName::new("wiki"));
        let began = Instant::now();
        let (down, well) = (url(1), url(2));
        assert!(troubles.is_first(&app, Trouble::Connection(&down), "refused".into(), began));
        troubles.answered(&app, &well);
        let later = began + QUIET;
        assert!(lines(&troubles, later).is_empty());
        troubles.answered(&app, &down);
        assert_eq!(lines(&troubles, later), ["wiki http://10.0.4.11:1: over, 1 in 0 s"]);
        assert!(troubles.of.is_empty());
    }
}
