//! The body of an answer: how long an app may be silent, and what happens when it is over.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{BodyError, Progress};
use crate::proxy::headers::trailers;
use crate::proxy::live::Watch;
use crate::proxy::upstream::answer::AnswerBody;
use crate::proxy::upstream::pool::Lease;
use crate::telemetry::access_log::{AccessLog, AccessRecord};

/// An answer's body. When it is over, in whatever way, the upstream connection goes back or goes
/// away, and the access log gets its line.
#[derive(Debug)]
pub struct ProxyBody {
    kind: Kind,
    finish: Option<Finish>,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Option<Bytes>),
    Upstream(Upstream),
}

#[derive(Debug)]
struct Upstream {
    answer: AnswerBody,
    lease: Option<Lease>,
    watch: Watch,
    silence: Silence,
    /// Whether what stands behind the body may pass (S-FRAME-5).
    trailers: bool,
    /// Why it broke off, until that is said.
    failed: Option<BodyError>,
}

/// How an answer's body is carried.
#[derive(Debug)]
pub struct Carriage {
    pub lease: Lease,
    /// Ends it when the session behind it ends.
    pub watch: Watch,
    pub patience: Patience,
}

/// How long nothing of an answer may come.
#[derive(Debug)]
pub enum Patience {
    /// Where the app's file says it.
    For(Duration),
    /// As long as the client waits. That it is gone stands behind the bytes of its upload, where there is one, and
    /// those are not read while the app takes none: it may do neither for so long only.
    WhileClientWaits { upload: Option<(Rc<Progress>, Duration)> },
}

/// How long the upstream has said nothing.
#[derive(Debug)]
struct Silence {
    patience: Patience,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let due = match &self.patience {
            Patience::For(limit) => since + *limit,
            Patience::WhileClientWaits { upload: Some((upload, limit)) } if !upload.is_whole() => {
                // Looked at again later when it is the client's turn: nobody wakes this when that changes.
                upload.waits_for_app().map_or_else(Instant::now, |waits| waits.max(since)) + *limit
            }
            Patience::WhileClientWaits { .. } => return Poll::Pending,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            // Set for an earlier silence: moved when it fires, not with every piece.
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

impl ProxyBody {
    #[must_use]
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, finish: None }
    }

    /// A page or problem of our own.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self { kind: if bytes.is_empty() { Kind::Empty } else { Kind::Full(Some(bytes)) }, finish: None }
    }

    /// An app's answer; whether its trailers pass.
    #[must_use]
    pub fn upstream(answer: AnswerBody, carriage: Carriage, trailers: bool) -> Self {
        let Carriage { lease, watch, patience } = carriage;
        let silence = Silence { patience, since: None, timer: None };
        let upstream = Upstream { answer, lease: Some(lease), watch, silence, trailers, failed: None };
        Self { kind: Kind::Upstream(upstream), finish: None }
    }

    /// Counts what is sent, and writes the access log's line when it is over.
    #[must_use]
    pub fn logged(mut self, finish: Finish) -> Self {
        self.finish = Some(finish);
        self
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Upstream(upstream) => upstream.poll(cx),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(finish)) = (&polled, &mut this.finish) {
            finish.record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream(upstream) => upstream.failed.is_none() && upstream.answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Upstream(upstream) => upstream.answer.size_hint(),
        }
    }
}

impl Upstream {
    /// Before an error, hyper gets to send what it has: over HTTP/1.1 it throws that away, with the head of the
    /// answer in it, when it meets the error in the same poll. To a browser on a connection that it used before, no
    /// byte of an answer means that the request never arrived, and it sends it once more, a POST as well (RFC 9112
    /// section 9.3.1). So the answer begins and breaks off, as it did for the gate.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = self.poll_next(cx);
        let Poll::Ready(Some(Err(error))) = polled else { return polled };
        self.failed = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            // Asked before each frame: a fast download must end as surely as a silent stream.
            if self.watch.is_over() {
                self.lease = None;
                return Poll::Ready(Some(Err(BodyError::SessionEnded)));
            }
            let polled = Pin::new(&mut self.answer).poll_frame(cx);
            if polled.is_ready() {
                self.silence.since = None;
            }
            return match polled {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
                Poll::Ready(Some(Ok(frame))) if self.trailers => match frame.into_trailers() {
                    Ok(mut fields) => {
                        trailers::clean(&mut fields);
                        Poll::Ready(Some(Ok(Frame::trailers(fields))))
                    }
                    Err(_unknown) => continue,
                },
                // Trailers of anything else are not passed on (S-FRAME-5).
                Poll::Ready(Some(Ok(_trailers))) => continue,
                Poll::Ready(Some(Err(error))) => {
                    self.lease = None;
                    Poll::Ready(Some(Err(BodyError::Upstream(error))))
                }
                Poll::Ready(None) => {
                    self.give_back();
                    Poll::Ready(None)
                }
                Poll::Pending => {
                    if self.watch.poll_over(cx).is_ready() {
                        continue;
                    }
                    if self.silence.poll_too_long(cx).is_ready() {
                        self.lease = None;
                        return Poll::Ready(Some(Err(BodyError::UpstreamSilent)));
                    }
                    Poll::Pending
                }
            };
        }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // hyper does not ask again once a body says that it is at its end; anything dropped
        // earlier takes its connection with it (S-FRAME-8).
        if self.answer.is_end_stream() {
            self.give_back();
        }
    }
}

/// The access log's line of one request, written when the last byte is sent or the client is gone.
#[derive(Debug)]
pub struct Finish {
    record: Box<AccessRecord>,
    log: Arc<AccessLog>,
    /// The request's body, which may still be on its way.
    request: Option<Rc<Progress>>,
}

impl Finish {
    #[must_use]
    pub fn new(record: Box<AccessRecord>, log: Arc<AccessLog>) -> Self {
        Self { record, log, request: None }
    }

    /// What is known by now; the rest is added as it comes to be known.
    pub fn record(&mut self) -> &mut AccessRecord {
        &mut self.record
    }

    /// What a tunnel carried, instead of two bodies.
    pub fn tunnelled(&mut self, up: u64, down: u64) {
        self.request = None;
        (self.record.bytes_in, self.record.bytes_out) = (up, down);
    }

    /// Takes the request's bytes from its body when the line is written.
    pub fn count_request(&mut self, progress: &Rc<Progress>) {
        self.request = Some(Rc::clone(progress));
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            self.record.bytes_in = request.bytes.get();
        }
        self.log.record(&self.record);
    }
}
