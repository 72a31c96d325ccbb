//! Archives made byte by byte, since no program makes such.

use std::io::Write;

pub const BLOCK: usize = 512;

/// A tar as it grows.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

/// One header, to be spoiled.
pub struct Header(pub [u8; BLOCK]);

impl Header {
    pub fn new(kind: u8, name: &[u8]) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[..name.len()].copy_from_slice(name);
        header.0[257..265].copy_from_slice(b"ustar\x0000");
        header.0[156] = kind;
        header.octal(100, 8, 0o644).octal(108, 8, 0).octal(116, 8, 0).size(0).octal(136, 12, 1_000_000_000)
    }

    pub fn octal(self, at: usize, len: usize, value: u64) -> Self {
        self.field(at, format!("{value:0width$o}\0", width = len - 1).as_bytes())
    }

    pub fn size(self, size: u64) -> Self {
        self.octal(124, 12, size)
    }

    pub fn mode(self, mode: u64) -> Self {
        self.octal(100, 8, mode)
    }

    pub fn link(self, target: &[u8]) -> Self {
        self.field(157, target)
    }

    pub fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn sealed(self) -> [u8; BLOCK] {
        let mut header = self.field(148, b"        ");
        let sum: u32 = header.0.iter().map(|byte| u32::from(*byte)).sum();
        header = header.field(148, format!("{sum:06o}\0 ").as_bytes());
        header.0
    }
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    /// The header as it is, and just these bytes behind it.
    pub fn raw(mut self, header: Header, data: &[u8]) -> Self {
        self.0.extend_from_slice(&header.sealed());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn with(self, header: Header, data: &[u8]) -> Self {
        self.raw(header.size(data.len() as u64), data)
    }

    pub fn file(self, name: &str, text: &str) -> Self {
        self.with(Header::new(b'0', name.as_bytes()), text.as_bytes())
    }

    pub fn file_of_mode(self, name: &str, mode: u64) -> Self {
        self.with(Header::new(b'0', name.as_bytes()).mode(mode), b"x")
    }

    pub fn dir(self, name: &str) -> Self {
        self.dir_of_mode(name, 0o755)
    }

    pub fn dir_of_mode(self, name: &str, mode: u64) -> Self {
        self.raw(Header::new(b'5', name.as_bytes()).mode(mode), b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(Header::new(b'2', name.as_bytes()).link(target.as_bytes()), b"")
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(Header::new(b'1', name.as_bytes()).link(target.as_bytes()), b"")
    }

    pub fn special(self, kind: u8, name: &str) -> Self {
        self.raw(Header::new(kind, name.as_bytes()).octal(329, 8, 1).octal(337, 8, 3), b"")
    }

    /// Records of pax for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (1..).map(|digits| rest + digits).find(|len| len.to_string().len() + rest == *len).unwrap();
            bytes.extend_from_slice(format!("{len} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.with(Header::new(b'x', b"PaxHeader"), &bytes)
    }

    /// GNU's long name (`L`) or long target (`K`) for the next member.
    pub fn long(self, kind: u8, name: &[u8]) -> Self {
        self.with(Header::new(kind, b"././@LongLink"), name)
    }

    /// With its end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 2 * BLOCK]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
