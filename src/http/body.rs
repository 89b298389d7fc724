//! Bodies: whole ones, ones that stream, and the reading of one up to a limit.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::LengthLimitError;

/// The error of a body, whatever that is.
pub type BoxError = Box<dyn Error + Send + Sync>;

type Streaming = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// The body of a request as the layer hands it on, and of a response as it answers.
///
/// Made from any other by [`Body::new`]; empty by default.
#[derive(Default)]
pub struct Body {
    /// Comes first.
    frames: VecDeque<Frame<Bytes>>,
    rest: Option<Streaming>,
}

impl Body {
    /// The same body as this type.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Body::default();
        }
        Body {
            frames: VecDeque::new(),
            rest: Some(Box::pin(Plain(Box::pin(body)))),
        }
    }

    /// A body that is there as a whole.
    pub(super) fn whole(data: Bytes, trailers: HeaderMap) -> Self {
        let mut frames = VecDeque::new();
        if !data.is_empty() {
            frames.push_back(Frame::data(data));
        }
        if !trailers.is_empty() {
            frames.push_back(Frame::trailers(trailers));
        }
        Body { frames, rest: None }
    }

    /// Reads on until the end, or until more than `limit` bytes have come or are sure to come.
    pub(super) async fn read(mut self, limit: usize) -> Read {
        let mut data = Gathered::default();
        let mut trailers = HeaderMap::new();
        while data.len() <= limit && self.announced() <= limit - data.len() {
            match self.next_frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(more) => data.push(more),
                    Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
                },
                None => {
                    let data = data.finish();
                    return Read::Whole(Whole { data, trailers });
                }
                Some(Err(error)) => {
                    let is_too_large = says_too_large(&*error);
                    let broken = Body {
                        frames: VecDeque::new(),
                        rest: Some(Box::pin(Broken(Some(error)))),
                    };
                    let broken = broken.after(data.finish());
                    return match is_too_large {
                        true => Read::TooLarge(broken),
                        false => Read::BrokenOff(broken),
                    };
                }
            }
        }
        Read::TooLarge(self.after(data.finish()))
    }

    /// Reads on and keeps nothing, if no more than `limit` bytes may come.
    pub(super) async fn discard(mut self, limit: usize) {
        let mut left = limit;
        while left > 0 && self.announced() <= left {
            match self.next_frame().await {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    left = left.saturating_sub(bytes);
                }
                _ => return,
            }
        }
    }

    /// How many bytes are sure to come.
    fn announced(&self) -> usize {
        let lower = http_body::Body::size_hint(self).lower();
        usize::try_from(lower).unwrap_or(usize::MAX)
    }

    /// This body with `first` before it.
    fn after(mut self, first: Bytes) -> Self {
        if !first.is_empty() {
            self.frames.push_front(Frame::data(first));
        }
        self
    }

    async fn next_frame(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *self), cx)).await
    }
}

/// Whether a limit that another layer set ended the body.
fn says_too_large(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(says_too_large)
}

/// What became of reading a body.
#[derive(Debug)]
pub(super) enum Read {
    /// It ended within the limit.
    Whole(Whole),
    /// It has more bytes than the limit; nothing of it is lost.
    TooLarge(Body),
    /// It failed; what came before, and then the failure.
    BrokenOff(Body),
}

/// A body that was read to its end.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) data: Bytes,
    pub(super) trailers: HeaderMap,
}

/// Data in one piece, without a copy if it came in one. Not a list of what came: a body of single
/// bytes would take far more memory than the limit on it says.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, more: Bytes) {
        if self.len() == 0 {
            self.first = more;
            return;
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.first));
        self.all.extend_from_slice(&more);
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}

impl From<Whole> for Body {
    fn from(whole: Whole) -> Self {
        Body::whole(whole.data, whole.trailers)
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        Body::whole(data, HeaderMap::new())
    }
}

impl From<Vec<u8>> for Body {
    fn from(data: Vec<u8>) -> Self {
        Bytes::from(data).into()
    }
}

impl From<String> for Body {
    fn from(data: String) -> Self {
        Bytes::from(data).into()
    }
}

impl From<&'static str> for Body {
    fn from(data: &'static str) -> Self {
        Bytes::from_static(data.as_bytes()).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Body::default()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match (this.frames.pop_front(), &mut this.rest) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Some(rest)) => rest.as_mut().poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // With trailers a length must not be known: HTTP/1.1 sends them after chunks alone.
        if self.frames.iter().any(Frame::is_trailers) {
            return SizeHint::default();
        }
        let first: usize = self
            .frames
            .iter()
            .filter_map(|frame| frame.data_ref().map(Bytes::len))
            .sum();
        let first = first as u64;
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(first);
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint.set_lower(
            rest.lower()
                .saturating_add(first)
                .min(hint.upper().unwrap_or(u64::MAX)),
        );
        hint
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("frames", &self.frames.len())
            .field("streams", &self.rest.is_some())
            .finish()
    }
}

/// Any body, with the data and the error of [`Body`].
struct Plain<B>(Pin<Box<B>>);

impl<B> http_body::Body for Plain<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = self.0.as_mut().poll_frame(cx);
        frame.map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
                Err(error) => Err(error.into()),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A body that has failed.
struct Broken(Option<BoxError>);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.get_mut().0.take().map(Err))
    }
}
