//! What stays open? An event stream that counts seconds, and a WebSocket that echoes.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::respond::{self, Body};
use crate::base::clock::{Clock, SystemClock};

const LARGEST_MESSAGE: usize = 1024 * 1024;

/// Server-sent events: a number and the time, at once and then each second.
pub(super) fn events(shutdown: CancellationToken) -> Response<Body> {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ticks = stream::unfold((every_second, 0_u64), move |(mut every_second, count)| {
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                () = shutdown.cancelled() => return None,
                _ = every_second.tick() => {}
            }
            let now = SystemClock.now();
            let event = format!("id: {count}\ndata: {{\"count\":{count},\"time\":\"{now}\"}}\n\n");
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event))), (every_second, count.saturating_add(1))))
        }
    });
    let mut response = Response::new(StreamBody::new(ticks).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// RFC 6455: accepts the handshake and sends every message back as it came.
pub(super) fn socket(mut request: Request<Incoming>, shutdown: CancellationToken) -> Response<Body> {
    let Some(accept) = accept_key(request.headers()) else {
        let mut response = respond::text(StatusCode::UPGRADE_REQUIRED, "This address speaks WebSocket only");
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let limits =
            WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE)).max_frame_size(Some(LARGEST_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
        let (mut to_peer, mut from_peer) = socket.split();
        loop {
            let message = tokio::select! {
                () = shutdown.cancelled() => break,
                message = from_peer.next() => message,
            };
            match message {
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    if to_peer.send(message).await.is_err() {
                        return;
                    }
                }
                // Pings and the closing handshake are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
        drop(to_peer.close().await);
    });
    let mut response = Response::new(respond::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let is = |name, wanted: &str| {
        headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).is_some_and(|v| v.eq_ignore_ascii_case(wanted))
    };
    if !is(header::UPGRADE, "websocket") || !is(header::SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}
