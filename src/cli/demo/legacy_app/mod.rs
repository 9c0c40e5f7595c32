//! What stands behind the gate in `stepgate demo`? A small staff directory of the kind that nobody
//! can change any more.
//!
//! It knows nothing of the gate: it trusts `Remote-User`, keeps a cookie session of its own, and
//! has one of each thing that proxies get wrong (forms, uploads, ranges, event streams,
//! WebSockets). `/headers` says what really arrived, so tests can ask it.

mod html;
mod live;
mod respond;
mod staff;
mod transfer;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::respond::Body;

/// Where "Log out" leads. It is the one setting that an admin changes when such an app moves behind
/// a gate; nearly every old app has it.
const LOG_OUT_URL: &str = "/.stepgate/logout";

/// How long open answers may go on once `shutdown` was called.
const DRAIN: Duration = Duration::from_secs(2);

struct App {
    staff: Mutex<staff::Directory>,
    shutdown: CancellationToken,
}

/// Serves HTTP/1.1 on `listener` until `shutdown`, then lets open answers finish for 2 s at most.
///
/// # Errors
/// None today beyond the listener's own; a connection that fails ends alone.
pub async fn serve(listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    let app = Arc::new(App { staff: Mutex::new(staff::Directory::with_samples()), shutdown: shutdown.clone() });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(Arc::clone(&app), stream));
            }
            // Out of descriptors, or a peer that was gone before we looked: neither ends the app.
            Err(error) => {
                tracing::warn!(%error, "legacy app: accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    drop(tokio::time::timeout(DRAIN, connections.wait()).await);
    Ok(())
}

async fn connection(app: Arc<App>, stream: TcpStream) {
    drop(stream.set_nodelay(true));
    let serving = {
        let app = Arc::clone(&app);
        service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(answer(&app, request).await) }
        })
    };
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), serving).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = app.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "legacy app: connection ended early");
    }
}

async fn answer(app: &App, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let post = request.method() == Method::POST;
    let visitor = Visitor::of(request.headers());
    let mut response = match path.as_str() {
        "/" if get => respond::page(&html::home(&visitor)),
        "/staff" if get => respond::page(&html::staff(&visitor, app.staff().rows())),
        "/staff" if post => add_row(app, request).await,
        "/upload" if get => respond::page(&html::upload(&visitor, None)),
        "/upload" if post || request.method() == Method::PUT => upload(&visitor, request).await,
        "/download" if get => transfer::download(request.headers(), request.method(), request.uri().query()),
        "/live" if get => respond::page(&html::live(&visitor)),
        "/live/events" if get => live::events(app.shutdown.clone()),
        "/chat" if get => respond::page(&html::chat(&visitor)),
        "/chat/socket" if get => live::socket(request, app.shutdown.clone()),
        "/reports" if get => respond::page(&html::reports(&visitor)),
        "/admin" if get => respond::page(&html::admin(&visitor)),
        other if other == "/headers" || other.starts_with("/headers/") => {
            respond::json(&respond::what_arrived(&request))
        }
        "/" | "/staff" | "/upload" | "/download" | "/live" | "/live/events" | "/chat" | "/chat/socket" | "/reports"
        | "/admin" => respond::text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        _ => respond::with_status(StatusCode::NOT_FOUND, &html::missing(&visitor)),
    };
    visitor.remember(&mut response);
    response
}

async fn add_row(app: &App, request: Request<Incoming>) -> Response<Body> {
    let added_by = Visitor::of(request.headers()).user.unwrap_or_default();
    match respond::form(request).await {
        Ok(fields) => {
            app.staff().add(&fields, &added_by);
            respond::see_other("/staff")
        }
        Err(status) => respond::text(status, "The form could not be read"),
    }
}

async fn upload(visitor: &Visitor, request: Request<Incoming>) -> Response<Body> {
    let wants_json = request.headers().get(header::ACCEPT).is_some_and(|a| a == "application/json");
    match transfer::receive(request).await {
        Ok(file) if wants_json => respond::json(&file.to_json()),
        Ok(file) => respond::page(&html::upload(visitor, Some(&file))),
        Err(reason) => respond::text(StatusCode::BAD_REQUEST, reason),
    }
}

impl App {
    fn staff(&self) -> std::sync::MutexGuard<'_, staff::Directory> {
        self.staff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the app believes about the person: the headers say who, its own cookie says how often.
struct Visitor {
    user: Option<String>,
    /// Every `Remote-*` header as it came, for the greeting.
    remote: Vec<(String, String)>,
    visits: u32,
}

impl Visitor {
    const COOKIE: &str = "legacyvisits";

    fn of(headers: &HeaderMap) -> Self {
        let remote: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("remote-"))
            .map(|(name, value)| (name.to_string(), respond::lossy(value)))
            .collect();
        let user = remote.iter().find(|(name, value)| name == "remote-user" && !value.is_empty());
        let visits = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(Self::COOKIE)?.strip_prefix('=')?.parse().ok())
            .unwrap_or(0_u32);
        Self { user: user.map(|(_, value)| value.clone()), remote, visits: visits.saturating_add(1) }
    }

    /// Two `Set-Cookie` fields on purpose: a proxy that folds them into one breaks the app.
    fn remember(&self, response: &mut Response<Body>) {
        let visits = format!("{}={}; Path=/; HttpOnly; SameSite=Lax", Self::COOKIE, self.visits);
        for cookie in [visits, "legacytheme=grey; Path=/".to_owned()] {
            if let Ok(value) = http::HeaderValue::from_maybe_shared(Bytes::from(cookie)) {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
