//! What a tar says: ustar, pax and GNU's long names and sparse files, one member after another. Numbers that lie and
//! names without end are faults here; what a member may be called and do is judged in [`super`].
//!
//! What comes after the end of the archive (two blocks of zeros; one does) is not read, as tar does not. An archive
//! that has no end was cut off.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::base::text::size;

const BLOCK: usize = 512;
/// Of a pax header or a long name: nobody has a name that needs more.
const EXTENSION: u64 = 1 << 20;
/// Pieces of one sparse file.
const PIECES: usize = 1 << 16;

/// One thing in the archive. Its bytes are read from [`Members`] before the next is asked for.
#[derive(Debug)]
pub struct Member {
    /// As it is written: nothing is clean about it.
    pub name: PathBuf,
    pub what: What,
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: u64,
}

#[derive(Debug)]
pub enum What {
    File {
        size: u64,
    },
    /// Pieces of bytes, one after another in the archive, each with its place in the file.
    Sparse {
        size: u64,
        pieces: Vec<Piece>,
    },
    Dir,
    Symlink(PathBuf),
    HardLink(PathBuf),
    /// Devices, pipes, volume labels, parts of others.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub offset: u64,
    pub len: u64,
}

/// Why it can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error("it is cut off")]
    CutOff,
    #[error("it unpacks to more than {}", size(*most))]
    Large { most: u64 },
    #[error("byte {0} begins no member")]
    NoHeader(u64),
    #[error("the {field} of a member is no number")]
    Number { field: &'static str },
    #[error("an extended header has {0} bytes")]
    Extension(u64),
    #[error("an extended header makes no sense")]
    Pax,
    #[error("it holds sparse files in the form of pax, which are not supported")]
    PaxSparse,
    #[error("the pieces of a sparse file make no sense")]
    Pieces,
}

/// The archive as it is read.
pub struct Members<R> {
    input: R,
    /// Of the input, as far as it was read, and as far as it may be.
    at: u64,
    most: u64,
    /// Bytes of the member that are still to come, and of its padding.
    left: u64,
    padding: u64,
}

/// What extended headers said of the next member.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<u64>,
}

impl<R: Read> Members<R> {
    /// Reads `most` bytes of the tar at most.
    pub fn new(input: R, most: u64) -> Self {
        Self { input, at: 0, most, left: 0, padding: 0 }
    }

    /// How far it was read, in bytes of the tar.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// `None` at the end of the archive.
    pub fn advance(&mut self) -> Result<Option<Member>, Fault> {
        let mut extended = Extended::default();
        let mut is_extended = false;
        loop {
            self.pass()?;
            let Some(header) = self.header()? else {
                return if is_extended { Err(Fault::CutOff) } else { Ok(None) };
            };
            is_extended = true;
            match header.kind() {
                b'L' => extended.name = Some(self.long_name(&header)?),
                b'K' => extended.link = Some(self.long_name(&header)?),
                b'x' => extended.read(&self.extension(&header)?)?,
                // It is said of all members: comments, as a rule.
                b'g' => drop(self.extension(&header)?),
                _ => return self.member(&header, extended).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, Fault> {
        let text = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let name = extended.name.unwrap_or_else(|| header.name());
        let link = || extended.link.clone().unwrap_or_else(|| header.link());
        let size = extended.size.map_or_else(|| header.size(), Ok)?;
        let (what, data) = match header.kind() {
            // As tar had it when directories had no kind of their own.
            0 | b'0' if name.ends_with(b"/") => (What::Dir, size),
            0 | b'0' | b'7' => (What::File { size }, size),
            b'1' => (What::HardLink(text(link())), 0),
            b'2' => (What::Symlink(text(link())), 0),
            b'5' => (What::Dir, 0),
            b'S' => (self.sparse(header, size)?, size),
            _ => (What::Other, size),
        };
        self.begin(data);
        let mtime = extended.mtime.or_else(|| header.mtime()).unwrap_or(0);
        Ok(Member { name: text(name), what, mode: header.mode()?, mtime })
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// Goes to the end of what was begun.
    fn pass(&mut self) -> Result<(), Fault> {
        let mut rest = self.left.saturating_add(self.padding);
        let mut nothing = [0; 8 << 10];
        while rest > 0 {
            let most = rest.min(nothing.len() as u64) as usize;
            self.fill(&mut nothing[..most])?;
            rest -= most as u64;
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        if self.at > self.most {
            return Err(Fault::Large { most: self.most });
        }
        match self.input.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::CutOff),
            Err(e) => Err(e.into()),
        }
    }

    fn header(&mut self) -> Result<Option<Header>, Fault> {
        let begin = self.at;
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let header = Header(block);
        if header.is_one() { Ok(Some(header)) } else { Err(Fault::NoHeader(begin)) }
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Fault> {
        let size = header.size()?;
        if size > EXTENSION {
            return Err(Fault::Extension(size));
        }
        self.begin(size);
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.left = 0;
        Ok(bytes)
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, Fault> {
        let mut name = self.extension(header)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// GNU's own form: the first pieces are in the header, the rest in blocks behind it.
    fn sparse(&mut self, header: &Header, size: u64) -> Result<What, Fault> {
        let real = number(&header.0[483..495], "size")?;
        let mut pieces = Vec::new();
        read_pieces(&header.0[386..482], &mut pieces)?;
        let mut goes_on = header.0[482] != 0;
        while goes_on {
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            read_pieces(&block[..504], &mut pieces)?;
            goes_on = block[504] != 0;
            if pieces.len() > PIECES {
                return Err(Fault::Pieces);
            }
        }
        let (mut end, mut total) = (0u64, 0u64);
        for piece in &pieces {
            let begins_after = piece.offset >= end;
            end =
                piece.offset.checked_add(piece.len).filter(|end| begins_after && *end <= real).ok_or(Fault::Pieces)?;
            total += piece.len;
        }
        if total == size { Ok(What::Sparse { size: real, pieces }) } else { Err(Fault::Pieces) }
    }
}

fn read_pieces(table: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Fault> {
    for entry in table.chunks_exact(24).take_while(|entry| entry[0] != 0) {
        let (offset, len) = (number(&entry[..12], "piece")?, number(&entry[12..], "piece")?);
        pieces.push(Piece { offset, len });
    }
    Ok(())
}

/// The bytes of the member that was asked for last.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = (bytes.len() as u64).min(self.left) as usize;
        let read = self.input.read(&mut bytes[..most])?;
        self.left -= read as u64;
        self.at += read as u64;
        Ok(read)
    }
}

struct Header([u8; BLOCK]);

impl Header {
    /// Does its checksum fit? Some old programs added up signed bytes.
    fn is_one(&self) -> bool {
        let counted = |i: usize, byte: u8| if (148..156).contains(&i) { b' ' } else { byte };
        let bytes = || self.0.iter().enumerate().map(|(i, byte)| counted(i, *byte));
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        let said = number(&self.0[148..156], "checksum").ok().and_then(|n| i64::try_from(n).ok());
        said == Some(unsigned) || said == Some(signed)
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = until_nul(&self.0[345..500]);
        // GNU has other things in the place of the prefix.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    fn link(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    fn mode(&self) -> Result<u32, Fault> {
        number(&self.0[100..108], "mode").map(|mode| (mode & 0o7777) as u32)
    }

    fn size(&self) -> Result<u64, Fault> {
        number(&self.0[124..136], "size")
    }

    /// `None` where it is before 1970, or nothing.
    fn mtime(&self) -> Option<u64> {
        number(&self.0[136..148], "time").ok()
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Octal digits with spaces around them, or, where the first bit is set, all other bits. At most 63 bits.
fn number(field: &[u8], name: &'static str) -> Result<u64, Fault> {
    let fault = || Fault::Number { field: name };
    if field[0] & 0x80 != 0 {
        let first = std::iter::once(&(field[0] & 0x7f)).chain(&field[1..]).copied().collect::<Vec<u8>>();
        let (high, low) = first.split_at(field.len() - 8.min(field.len()));
        let value = low.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let fits = high.iter().all(|byte| *byte == 0) && i64::try_from(value).is_ok();
        return if fits { Ok(value) } else { Err(fault()) };
    }
    let text = until_nul(field).trim_ascii();
    if text.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let value = text.and_then(|text| u64::from_str_radix(text, 8).ok());
    value.filter(|value| i64::try_from(*value).is_ok()).ok_or_else(fault)
}

impl Extended {
    /// Records of pax: a length in digits, a space, `key=value`, a line's end.
    fn read(&mut self, mut records: &[u8]) -> Result<(), Fault> {
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or(Fault::Pax)?;
            let digits = std::str::from_utf8(&records[..space]).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let len: usize = digits.and_then(|digits| digits.parse().ok()).ok_or(Fault::Pax)?;
            let record = records.get(space + 1..len).and_then(|record| record.strip_suffix(b"\n")).ok_or(Fault::Pax)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(Fault::Pax)?;
            self.take(&record[..equals], &record[equals + 1..])?;
            records = &records[len..];
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let whole = |value: &[u8]| {
            let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok()).filter(|n| i64::try_from(*n).is_ok())
        };
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(whole(value).ok_or(Fault::Number { field: "size" })?),
            // A fraction goes; a time before 1970 is none.
            b"mtime" => self.mtime = value.split(|byte| *byte == b'.').next().and_then(whole),
            key if key.starts_with(b"GNU.sparse.") => return Err(Fault::PaxSparse),
            _ => {}
        }
        Ok(())
    }
}
