//! The header's bytes: written and read by hand, fixed width, frozen for ever (`docs/protocol.md` §3.1).

use super::{Author, Header, OpError, VERSION};
use crate::body::Kind;
use crate::codec::{CodecError, Ext};
use crate::id::{Digest, NetworkId, NodeId, OpId};
use crate::limits::PARENTS_MAX;
use crate::time::Timestamp;

impl Header {
    /// The bytes that the id hashes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.kind.0.to_le_bytes());
        bytes.extend_from_slice(self.network.as_bytes());
        bytes.extend_from_slice(match &self.author {
            Author::Root => &[0; 32],
            Author::Device(device) => device.as_bytes(),
        });
        bytes.extend_from_slice(self.authority.as_bytes());
        bytes.extend_from_slice(&self.time.ms().to_le_bytes());
        bytes.push(self.parents.len() as u8);
        for parent in &self.parents {
            bytes.extend_from_slice(parent.as_bytes());
        }
        bytes.extend_from_slice(&self.body_len.to_le_bytes());
        bytes.extend_from_slice(self.body_hash.as_bytes());
        bytes.push(self.ext.entries().len() as u8);
        for (kind, value) in self.ext.entries() {
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    /// Reads a header at the start of `bytes`; gives it and its length.
    ///
    /// # Errors
    /// When the bytes are not a header in its one encoding.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), OpError> {
        let mut reader = Reader { bytes, at: 0 };
        let version = reader.take::<1>()?[0];
        if version != VERSION {
            return Err(OpError::Version(version));
        }
        let kind = Kind(u16::from_le_bytes(reader.take()?));
        let network = NetworkId::new(reader.take()?);
        let author = match reader.take::<32>()? {
            bytes if bytes == [0; 32] => Author::Root,
            bytes => Author::Device(NodeId::parse(bytes).map_err(|_| CodecError::Malformed)?),
        };
        let authority = OpId::new(reader.take()?);
        let time = Timestamp::from_ms(u64::from_le_bytes(reader.take()?));
        let count = usize::from(reader.take::<1>()?[0]);
        if count > PARENTS_MAX {
            return Err(CodecError::Malformed.into());
        }
        let parents = (0..count)
            .map(|_| reader.take().map(OpId::new))
            .collect::<Result<Vec<_>, _>>()?;
        if !parents.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(CodecError::NotCanonical.into());
        }
        let body_len = u32::from_le_bytes(reader.take()?);
        let body_hash = Digest::new(reader.take()?);
        let ext = reader.ext()?;
        let header = Self {
            kind,
            network,
            author,
            authority,
            time,
            parents,
            body_len,
            body_hash,
            ext,
        };
        Ok((header, reader.at))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let rest = self.bytes.get(self.at..).ok_or(CodecError::Malformed)?;
        let chunk = rest.first_chunk().copied().ok_or(CodecError::Malformed)?;
        self.at += N;
        Ok(chunk)
    }

    fn ext(&mut self) -> Result<Ext, CodecError> {
        let count = usize::from(self.take::<1>()?[0]);
        let mut entries = Vec::new();
        for _ in 0..count {
            let kind = u16::from_le_bytes(self.take()?);
            let len = usize::from(u16::from_le_bytes(self.take()?));
            let value = self
                .bytes
                .get(self.at..self.at + len)
                .ok_or(CodecError::Malformed)?;
            self.at += len;
            entries.push((kind, value.to_vec()));
        }
        Ext::new(entries)
    }
}
