//! Bodies that are streamed line by line, both ways; each line that comes in is within a bound.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, StreamExt};
use service::problem::Problem;
use std::{convert::Infallible, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The media type, both ways. A browser asks before it sends that to another host.
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Most bytes of one body's lines without an answer written.
pub const BYTES_UNDER_WAY_MAX: usize = 16 << 20;
/// Answers written together, if they are there.
const LINES_TOGETHER_MAX: usize = 256;

/// One line of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its line feed.
    Text(Vec<u8>),
    /// Longer than allowed; what it was is gone.
    TooLong,
}

/// What the lines of one body that are under way take up: [`BYTES_UNDER_WAY_MAX`] at most. Who counts
/// lines alone lets a body of long ones take a thousand times the memory of one of short ones.
#[derive(Debug)]
pub struct Room(Arc<Semaphore>);

/// A line's part of it, until it is dropped.
pub type Taken = OwnedSemaphorePermit;

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES_UNDER_WAY_MAX)))
    }
}

impl Room {
    /// Waits until there is room for a line.
    pub async fn take(&self, line: &Line) -> Taken {
        let bytes = match line {
            Line::Text(text) => text.len().min(BYTES_UNDER_WAY_MAX),
            Line::TooLong => 0,
        };
        let bytes = u32::try_from(bytes).expect("a bound of some MiB");
        let taken = self.0.clone().acquire_many_owned(bytes).await;
        taken.expect("nobody closes it")
    }
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
    /// Lines of at most [`LINE_BYTES_MAX`].
    pub fn new(chunks: S) -> Self {
        Self::within(LINE_BYTES_MAX, chunks)
    }

    /// Lines of at most `bytes_max`.
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
    /// The client went away in the middle.
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

/// That a request's body is of lines.
///
/// # Errors
/// 415: its media type is not [`MEDIA_TYPE`].
pub fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next());
    if media_type.map(str::trim) == Some(MEDIA_TYPE) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "CONTENT_TYPE_NOT_NDJSON",
        format!("the body must be {MEDIA_TYPE}"),
    ))
}

/// Answers with lines, each with its line feed, as they come.
pub fn respond(lines: impl Stream<Item = Vec<u8>> + Send + 'static) -> Response {
    let chunks = lines
        .ready_chunks(LINES_TOGETHER_MAX)
        .map(|lines| Ok::<_, Infallible>(Bytes::from(lines.concat())));
    let body = Body::from_stream(chunks);
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

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
    async fn a_line_that_is_too_long_costs_only_itself() {
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
        fn chunks_do_not_matter(chunks in proptest::collection::vec("[a\n]{0,5}", 0..8)) {
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
