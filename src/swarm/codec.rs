//! Questions and answers on a stream: a length of 4 bytes, big endian, then so many bytes (`docs/protocol.md` §7.1).

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;

/// Reads and writes one service's messages within its limits.
#[derive(Clone, Debug)]
pub(super) struct BytesCodec {
    /// Most bytes of a question.
    pub(super) question_bytes_max: usize,
    /// Most bytes of an answer.
    pub(super) answer_bytes_max: usize,
}

impl request_response::Codec for BytesCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.question_bytes_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.answer_bytes_max).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        question: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &question, self.question_bytes_max).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &answer, self.answer_bytes_max).await
    }
}

/// Memory grows with the bytes that came, not with the length that was promised.
async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if !usize::try_from(length).is_ok_and(|length| length <= bytes_max) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the message is too long",
        ));
    }
    let mut bytes = Vec::new();
    io.take(u64::from(length)).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

async fn write<T>(io: &mut T, bytes: &[u8], bytes_max: usize) -> io::Result<()>
where
    T: AsyncWrite + Unpin + Send,
{
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= bytes_max);
    let Some(length) = length else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is too long",
        ));
    };
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;

    use super::*;

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut wire = Cursor::new(Vec::new());
        block_on(write(&mut wire, bytes, bytes.len())).unwrap();
        wire.into_inner()
    }

    #[test]
    fn a_message_at_the_limit_passes_and_one_past_it_does_not() {
        let wire = framed(&[5; 9]);
        assert_eq!(block_on(read(&mut wire.as_slice(), 9)).unwrap(), vec![5; 9]);
        assert!(block_on(read(&mut wire.as_slice(), 8)).is_err());
        assert!(block_on(write(&mut Cursor::new(Vec::new()), &[5; 9], 8)).is_err());
    }

    #[test]
    fn an_empty_message_is_a_message() {
        assert_eq!(
            block_on(read(&mut framed(&[]).as_slice(), 8)).unwrap(),
            Vec::<u8>::new()
        );
    }

    #[test]
    fn a_cut_message_is_refused_at_every_length() {
        let wire = framed(&[5; 9]);
        for end in 0..wire.len() {
            assert!(block_on(read(&mut &wire[..end], 9)).is_err(), "{end}");
        }
    }
}
