//! The tar inside of an archive, whatever it is packed with. Each decoder's memory is bounded: a few bytes of
//! header can ask for gigabytes of window.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// What `xz` may take to unpack: its largest preset takes 65 MiB, a window of 256 MiB fits.
const XZ_MEMORY: u64 = 272 << 20;
/// Windows of zstd, as a power of two: 128 MiB, what the `zstd` program takes unasked.
const ZSTD_WINDOW: u32 = 27;

/// `None` where it is nothing that we know, by its first bytes.
pub fn open(archive: &Path) -> io::Result<Option<Box<dyn Read>>> {
    let mut head = [0; 262];
    let mut file = File::open(archive)?;
    let mut filled = 0;
    while filled < head.len() {
        match file.read(&mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    let file = BufReader::with_capacity(256 * 1024, File::open(archive)?);
    Ok(Some(match &head[..filled] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(file)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        head if head.get(257..262) == Some(b"ustar") => Box::new(file),
        _ => return Ok(None),
    }))
}
