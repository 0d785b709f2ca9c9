//! What the fuzz targets share: seeds, and tars whose checksums are right.
//!
//! There is one target for each parser of bytes that come from elsewhere, and each says at its top which promises it
//! holds the parser to. `cargo xtask fuzz` runs them, `cargo xtask fuzz --seconds 600 tar` one of them for longer.
//! libFuzzer keeps what reached new code in `corpus/`, and an input that broke a promise in `artifacts/`.

use std::fs;
use std::path::Path;

use tar::Header;

const BLOCK_BYTES: usize = 512;

/// Puts `seeds` into the folder that libFuzzer reads next: where it starts from.
pub fn plant(target: &str, seeds: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the folder of the corpus can be made");
    for (number, seed) in seeds.into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed can be written");
    }
}

/// Makes the checksums of a tar right, which no mutation would get past otherwise. Follows the headers as a reader
/// does, so that data stays as it is.
pub fn mend(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + BLOCK_BYTES) {
        at += BLOCK_BYTES;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let mut more = header.as_gnu().is_some_and(|gnu| block[156] == b'S' && gnu.isextended[0] != 0);
        while more && let Some(extension) = tar.get(at..at + BLOCK_BYTES) {
            more = extension[504] != 0;
            at += BLOCK_BYTES;
        }
        let size_bytes = header.entry_size().unwrap_or(0).checked_next_multiple_of(BLOCK_BYTES as u64);
        let end = size_bytes.and_then(|size_bytes| at.checked_add(usize::try_from(size_bytes).ok()?));
        let Some(end) = end.filter(|end| *end < tar.len()) else { return };
        at = end;
    }
}
