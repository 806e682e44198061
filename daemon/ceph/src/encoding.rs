//! Ceph's own encoding of the few structures that are exchanged with object classes: little-endian numbers, lengths before contents.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Writes what a method of an object class is given.
#[derive(Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A string is a buffer.
    pub(crate) fn text(self, value: &str) -> Self {
        self.buffer(value.as_bytes())
    }

    pub(crate) fn buffer(self, value: &[u8]) -> Self {
        let mut encoder = self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        encoder.0.extend(value);
        encoder
    }

    /// `map<string, buffer>`.
    pub(crate) fn map(self, pairs: &BTreeMap<String, String>) -> Self {
        let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
        pairs.iter().fold(self.u32(count), |encoder, (key, value)| encoder.text(key).text(value))
    }

    /// A structure with its version, readable since version 1.
    pub(crate) fn versioned(mut self, inner: Encoder) -> Self {
        self = self.u8(1).u8(1).u32(u32::try_from(inner.0.len()).unwrap_or(u32::MAX));
        self.0.extend(inner.0);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// An answer that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer of an object class ends too early, or is of a version that is not known")]
pub struct Malformed;

/// Reads what a method of an object class answers.
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn buffer(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        self.buffer().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// `map<string, string>` or `map<string, buffer>`.
    pub(crate) fn map(&mut self) -> Result<BTreeMap<String, String>, Malformed> {
        (0..self.u32()?).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    /// The inside of a structure that carries its version and length; what a newer one has at its end is passed over.
    pub(crate) fn versioned(&mut self) -> Result<Decoder<'a>, Malformed> {
        let (_version, _compatible) = (self.u8()?, self.u8()?);
        self.buffer().map(Decoder)
    }

    /// `entity_addr_t` as `ADDRESS:PORT/NONCE`, the form in which monitors take it; empty where it is of no known kind.
    pub(crate) fn address(&mut self) -> Result<String, Malformed> {
        if self.u8()? == 0 {
            // The form before Nautilus: the rest of a zero, the nonce, a `sockaddr_storage` whose family is in network order.
            let (_zero, nonce) = (self.array::<3>()?, self.u32()?);
            let raw = self.array::<128>()?;
            return Ok(socket_address(u16::from_be_bytes([raw[0], raw[1]]), &raw[2..], nonce));
        }
        let mut inside = self.versioned()?;
        let (_kind, nonce, len) = (inside.u32()?, inside.u32()?, inside.u32()?);
        if len < 2 {
            return Ok(String::new());
        }
        let raw = inside.take(len as usize)?;
        Ok(socket_address(u16::from_le_bytes([raw[0], raw[1]]), &raw[2..], nonce))
    }
}

/// A `sockaddr` behind its family: the port in network order, then the address.
fn socket_address(family: u16, rest: &[u8], nonce: u32) -> String {
    let Some(port) = rest.first_chunk::<2>().map(|port| u16::from_be_bytes(*port)) else { return String::new() };
    let ip = match i32::from(family) {
        libc::AF_INET => rest.get(2..6).and_then(|ip| <[u8; 4]>::try_from(ip).ok()).map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
        libc::AF_INET6 => rest.get(6..22).and_then(|ip| <[u8; 16]>::try_from(ip).ok()).map(|ip| IpAddr::V6(Ipv6Addr::from(ip))),
        _ => None,
    };
    match ip {
        Some(IpAddr::V4(ip)) => format!("{ip}:{port}/{nonce}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}/{nonce}"),
        None => String::new(),
    }
}

/// The host's address in `ADDRESS:PORT/NONCE`, with or without a messenger version before it.
pub(crate) fn ip_of(address: &str) -> Option<IpAddr> {
    let address = address.strip_prefix("v1:").or_else(|| address.strip_prefix("v2:")).or_else(|| address.strip_prefix("any:")).unwrap_or(address);
    let host = address.split('/').next()?.rsplit_once(':')?.0;
    let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let pairs = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("ä".to_owned(), String::new())]);
        let bytes = Encoder::default().u64(7).versioned(Encoder::default().u8(3).map(&pairs)).text("end").bytes();
        let mut decoder = Decoder::of(&bytes);
        assert_eq!(decoder.u64(), Ok(7));
        let mut inside = decoder.versioned().unwrap();
        assert_eq!((inside.u8(), inside.map()), (Ok(3), Ok(pairs)));
        assert_eq!(decoder.text().as_deref(), Ok("end"));
        assert_eq!(decoder.u8(), Err(Malformed));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        let bytes = Encoder::default().versioned(Encoder::default().text("windlass").u32(5)).bytes();
        let read = |bytes: &[u8]| -> Result<(String, u32), Malformed> {
            let mut decoder = Decoder::of(bytes);
            let mut inside = decoder.versioned()?;
            Ok((inside.text()?, inside.u32()?))
        };
        assert_eq!(read(&bytes), Ok(("windlass".to_owned(), 5)));
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len]), Err(Malformed), "{len} bytes");
        }
        assert_eq!(Decoder::of(&[255, 255, 255, 255, 0]).map(), Err(Malformed));
    }

    #[test]
    fn addresses_of_both_forms_are_read() {
        let modern = |family: u16, rest: &[u8]| {
            let mut bytes = Encoder::default().u32(1).u32(99).u32(u32::try_from(rest.len() + 2).unwrap()).bytes();
            bytes.extend(family.to_le_bytes());
            bytes.extend(rest);
            let mut all = vec![1, 1, 1];
            all.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
            all.extend(bytes);
            Decoder::of(&all).address().unwrap()
        };
        assert_eq!(modern(2, &[0, 0, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]), "10.1.2.3:0/99");
        let mut six = vec![0, 0, 0, 0, 0, 0, 0xfd];
        six.extend([0; 14]);
        six.extend([1, 0, 0, 0, 0]);
        assert_eq!(modern(10, &six), "[fd00::1]:0/99");
        assert_eq!(modern(0, &[0; 14]), "");

        let mut legacy = vec![0, 0, 0, 0, 99, 0, 0, 0, 0, 2, 0x1a, 0x85, 10, 1, 2, 3];
        legacy.resize(8 + 128, 0);
        assert_eq!(Decoder::of(&legacy).address().as_deref(), Ok("10.1.2.3:6789/99"));
    }

    #[test]
    fn the_host_of_an_address_is_found() {
        for (address, ip) in
            [("10.1.2.3:0/99", "10.1.2.3"), ("v1:10.1.2.3:0/99", "10.1.2.3"), ("[fd00::1]:0/99", "fd00::1"), ("[::ffff:10.1.2.3]:0/1", "10.1.2.3")]
        {
            assert_eq!(ip_of(address), Some(ip.parse().unwrap()), "{address}");
        }
        assert_eq!(ip_of("-"), None);
        assert_eq!(ip_of(""), None);
    }
}
