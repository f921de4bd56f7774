//! Bodies that are streamed line by line, in both directions. Incoming lines have a bound.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt};
use service::{media_type, problem::Problem};
use std::convert::Infallible;

/// The media type, in both directions. A browser sends a preflight request before it sends this type to
/// another host.
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Maximum number of lines in one chunk.
const LINES_PER_CHUNK_MAX: usize = 256;

/// One line of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The line without its line feed.
    Text(Vec<u8>),
    /// A line that is longer than allowed; its content was dropped.
    TooLong,
}

/// Cuts a stream of chunks into lines.
pub struct Lines<S> {
    chunks: S,
    chunk: Bytes,
    line: Vec<u8>,
    too_long: bool,
    bytes_max: usize,
}

impl<S, E> Lines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// Lines of at most [`LINE_BYTES_MAX`] bytes.
    pub fn new(chunks: S) -> Self {
        Self::within(LINE_BYTES_MAX, chunks)
    }

    /// Lines of at most `bytes_max` bytes.
    pub fn within(bytes_max: usize, chunks: S) -> Self {
        Self {
            chunks,
            chunk: Bytes::new(),
            line: Vec::new(),
            too_long: false,
            bytes_max,
        }
    }

    /// The next line; `None` at the end. The last line needs no line feed.
    ///
    /// # Errors
    /// The client disconnected in the middle of the body.
    pub async fn next(&mut self) -> Result<Option<Line>, E> {
        loop {
            if let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') {
                let rest = self.chunk.split_to(end + 1);
                self.extend(&rest[..end]);
                return Ok(Some(self.take()));
            }
            let chunk = std::mem::take(&mut self.chunk);
            self.extend(&chunk);
            match self.chunks.next().await {
                Some(chunk) => self.chunk = chunk?,
                None if self.line.is_empty() && !self.too_long => return Ok(None),
                None => return Ok(Some(self.take())),
            }
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.too_long || self.line.len() + bytes.len() > self.bytes_max {
            self.too_long = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn take(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        match std::mem::take(&mut self.too_long) {
            true => Line::TooLong,
            false => Line::Text(line),
        }
    }
}

/// Checks that a request's body has the form of lines.
///
/// # Errors
/// 415: its media type is not [`MEDIA_TYPE`], its charset is not UTF-8, or it is encoded.
pub fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let detail = format!("send the body as {MEDIA_TYPE}");
    let other_type = ("CONTENT_TYPE_NOT_NDJSON", detail.as_str());
    media_type::check(headers, |media_type| media_type == MEDIA_TYPE, other_type)
}

/// Responds with lines as they become ready. Each has its line feed.
pub fn respond(lines: impl Stream<Item = Vec<u8>> + Send + 'static) -> Response {
    let body = Body::from_stream(chunks(lines).map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
}

/// Joins lines that are ready at the same time to one chunk of a body.
pub fn chunks(lines: impl Stream<Item = Vec<u8>>) -> impl Stream<Item = Bytes> {
    let together = lines.ready_chunks(LINES_PER_CHUNK_MAX);
    together.map(|lines| Bytes::from(lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn lines(chunks: Vec<Vec<u8>>) -> Vec<Line> {
        let chunks = chunks
            .into_iter()
            .map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk)));
        let mut lines = Lines::new(futures_util::stream::iter(chunks));
        let mut all = Vec::new();
        while let Ok(Some(line)) = lines.next().await {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_does_not_affect_the_others() {
        let chunks = vec![
            b"a\n".to_vec(),
            vec![b'x'; LINE_BYTES_MAX],
            b"x\nb".to_vec(),
        ];
        let text = |line: &[u8]| Line::Text(line.to_vec());
        assert_eq!(lines(chunks).await, [text(b"a"), Line::TooLong, text(b"b")]);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_chunks(chunks in proptest::collection::vec("[a\n]{0,5}", 0..8)) {
            let whole: String = chunks.concat();
            let mut expected: Vec<_> = whole.split('\n').map(|l| Line::Text(l.into())).collect();
            if whole.is_empty() || whole.ends_with('\n') {
                expected.pop();
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let chunks = chunks.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(runtime.block_on(lines(chunks)), expected);
        }
    }
}
