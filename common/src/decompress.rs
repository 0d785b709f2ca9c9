//! Takes compression away, whatever it is: archives that users hand over come in all of them.
//!
//! Layers on the wire are stricter, see `layer`: they have gzip or zstd and a limit against bombs.

use std::io::{self, BufReader, Cursor, Read};

/// The bytes inside `input`: gzip, bzip2, xz and zstd are known by their first bytes, all else is passed on as it is.
/// Several members, streams or frames are read as one.
///
/// # Errors
/// When `input` cannot be read; damage is an error of the reader that is returned.
pub fn decompress<'a>(mut input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::with_capacity(6);
    (&mut input).take(6).read_to_end(&mut start)?;
    let magic: [u8; 6] = std::array::from_fn(|n| start.get(n).copied().unwrap_or(0));
    let whole = BufReader::with_capacity(64 << 10, Cursor::new(start).chain(input));
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new(whole, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        _ => Box::new(whole),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_the_usual_programs_compress_is_read() {
        let text = "some text\n".repeat(100_000);
        for program in ["gzip", "bzip2", "xz", "zstd", "cat"] {
            let Ok(mut child) =
                Command::new(program).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
            else {
                eprintln!("skipped: {program} is not installed");
                continue;
            };
            let mut stdin = child.stdin.take().unwrap();
            let bytes = text.clone().into_bytes();
            let writer = std::thread::spawn(move || stdin.write_all(&bytes));
            let compressed = child.wait_with_output().unwrap().stdout;
            writer.join().unwrap().unwrap();
            let mut found = String::new();
            decompress(&compressed[..]).unwrap().read_to_string(&mut found).unwrap();
            assert!(found == text, "{program}");
        }
    }

    #[test]
    fn short_and_empty_inputs_pass_through() {
        for input in [&b""[..], b"a", &[0x1f], b"BZ"] {
            let mut found = Vec::new();
            decompress(input).unwrap().read_to_end(&mut found).unwrap();
            assert_eq!(found, input);
        }
    }
}
