//! Request bodies, kept for a retry if they are small.

use crate::connections::Connection;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, BodyStream, Collected, Full, StreamBody};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use token_broker_client::http::{Body, BoxError, empty, full};

/// The longest body that is kept.
pub(crate) const MOST_KEPT: usize = 64 * 1024;

/// A copy of a body, to send it again.
pub(crate) enum Kept {
    /// All of it: the body was short, and was read before it was sent.
    Whole(Bytes),
    /// The part that has passed so far, for a body without a declared length.
    Recorded(Arc<Mutex<Recording>>),
    /// Nothing: the body is too long.
    Nothing,
}

/// A copy of a body that is being sent.
#[derive(Default)]
pub(crate) struct Recording {
    frames: BytesMut,
    trailers: Option<http::HeaderMap>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Partial,
    Complete,
    TooLong,
}

/// Splits a body into the body to send and its copy. A body that is passed on as it arrives tells the connection while it
/// waits for the caller.
pub(crate) async fn take(body: Incoming, connection: &Arc<Connection>) -> Result<(Body, Kept), hyper::Error> {
    if body.is_end_stream() {
        return Ok((empty(), Kept::Whole(Bytes::new())));
    }
    match body.size_hint().exact() {
        Some(length) if usize::try_from(length).is_ok_and(|length| length <= MOST_KEPT) => {
            let bytes = body.collect().await.map(Collected::to_bytes)?;
            Ok((full(bytes.clone()), Kept::Whole(bytes)))
        }
        Some(_) => Ok((
            Upload { body, recording: None, connection: Arc::clone(connection) }.boxed_unsync(),
            Kept::Nothing,
        )),
        None => {
            let recording = Arc::<Mutex<Recording>>::default();
            let upload =
                Upload { body, recording: Some(Arc::clone(&recording)), connection: Arc::clone(connection) };
            Ok((upload.boxed_unsync(), Kept::Recorded(recording)))
        }
    }
}

impl Kept {
    /// Whether the body was empty.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// The whole body again, if it was kept.
    pub(crate) fn again(&self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(full(bytes.clone())),
            Self::Recorded(recording) => recording.lock().unwrap_or_else(PoisonError::into_inner).again(),
            Self::Nothing => None,
        }
    }
}

impl Recording {
    fn add(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            if self.state == State::TooLong || self.frames.len() + data.len() > MOST_KEPT {
                self.state = State::TooLong;
                self.frames = BytesMut::new();
            } else {
                self.frames.extend_from_slice(data);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            // Trailers come last, and the body is not polled after them.
            self.end();
        }
    }

    fn end(&mut self) {
        if self.state == State::Partial {
            self.state = State::Complete;
        }
    }

    fn again(&self) -> Option<Body> {
        if self.state != State::Complete {
            return None;
        }
        let data = Full::new(Bytes::copy_from_slice(&self.frames)).map_err(|never| match never {});
        let trailers = self.trailers.clone().map(Ok);
        // Without a declared length, as received: a body with trailers cannot declare its length.
        let body = BodyStream::new(data.with_trailers(std::future::ready(trailers)));
        Some(StreamBody::new(body).boxed_unsync())
    }
}

/// A body that is passed on while it comes, and copied if its length was not declared.
struct Upload {
    body: Incoming,
    recording: Option<Arc<Mutex<Recording>>>,
    connection: Arc<Connection>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.connection.upload_waits(polled.is_pending());
        let frame = ready!(polled);
        if let Some(recording) = &self.recording {
            let mut recording = recording.lock().unwrap_or_else(PoisonError::into_inner);
            match &frame {
                Some(Ok(frame)) => recording.add(frame),
                Some(Err(_)) => {}
                None => recording.end(),
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; length]))
    }

    #[tokio::test]
    async fn a_complete_recording_is_the_body_with_its_trailers() {
        let mut recording = Recording::default();
        recording.add(&frame(300));
        assert!(recording.again().is_none(), "the body has not ended");
        recording.add(&frame(300));
        let trailers = http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "600".parse().unwrap())]);
        recording.add(&Frame::trailers(trailers.clone()));
        let again = recording.again().unwrap().collect().await.unwrap();
        assert_eq!(again.trailers(), Some(&trailers));
        assert_eq!(again.to_bytes(), "x".repeat(600));
    }

    #[test]
    fn a_long_body_is_not_kept() {
        let mut recording = Recording::default();
        recording.add(&frame(MOST_KEPT));
        assert_eq!(recording.frames.len(), MOST_KEPT);
        recording.add(&frame(1));
        recording.add(&frame(1));
        recording.end();
        assert!(recording.again().is_none() && recording.frames.is_empty());
    }
}
