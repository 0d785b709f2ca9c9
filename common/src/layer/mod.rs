//! Layers: tar files of changes, the tables that say what is in them, and the forms in which they travel.
//!
//! A layer is named by its *diff ID*, the digest of the uncompressed tar, and does not depend on what it lies upon.
//! A stack of layers is named by its [`chain_id`].
//!
//! - [`index`]: the sorted path table of one layer, and the types of an entry
//! - [`mod@reader`], [`mod@writer`]: tar bytes to entries and back
//! - [`mod@apply`], [`mod@diff`]: tar bytes to files and back
//! - [`stored`], [`import`]: layers in the store: made here, opened, taken in from elsewhere
//! - [`codec`], [`form`], [`mod@encode`]: how they travel
//! - [`root`]: what a stack of layers looks like from above, without unpacking it
//!
//! Only this module knows both tar and file systems.
//!
//! # Hostile layers
//! Nothing outside an image's root is read or written, whatever a layer says, and what cannot be unpacked is refused as
//! soon as that can be known:
//!
//! | a layer with | becomes |
//! |---|---|
//! | `..` in a name or in a hard link's target | refused by name when it comes in |
//! | an absolute name, `/etc/x` | `etc/x` beneath the root, as with docker |
//! | an entry below a symlink that leads out, `x -> ../../etc` and `x/passwd` | `etc/passwd` beneath the root, as with docker |
//! | a hard link to what neither it nor a layer below has | refused: in the lowest layer when that comes in, above when the image does |
//! | a device 0:0, overlayfs's whiteout | refused by name when it comes in |
//! | two sizes for one file, data behind a link, two types for one path … | refused: see [`mod@reader`] and [`import`] |
//! | more entries, holes or bytes than [`Limits`] and [`Expansion`] allow | refused when the limit is reached |

pub mod apply;
pub(crate) mod beneath;
mod block;
pub mod codec;
mod cut;
pub mod diff;
mod disk;
pub mod encode;
pub mod form;
pub mod import;
pub mod index;
mod limits;
mod pax;
mod pipe;
pub mod reader;
pub mod root;
mod sparse;
pub mod stored;
#[cfg(test)]
pub(crate) mod testing;
pub mod writer;

use crate::digest::{Algorithm, Digest};

pub use apply::{ApplyError, ApplyOptions, Owners, apply, apply_noting};
pub use codec::{Codec, DecodeError, Expansion};
pub use diff::{DiffError, DiffOptions, TreeKind, XattrChoice, diff};
pub use encode::{EncodeOptions, encode, form_name};
pub use form::Form;
pub use import::{Import, ImportOptions, Imported};
pub use index::{Content, Entry, Header, Index, IndexError, Kind, Segment, Time};
pub use limits::Limits;
pub use reader::{TarError, TarReader};
pub use root::{FileReader, Follow, LoopError, Resolved, Root, StackError, check_stack};
pub use sparse::HoleReader;
pub use stored::{
    CreateOptions, LayerError, LayerFile, StoredLayer, TarStream, create, exists, foreign_form, forms,
    is_sound, open_tar, read_tar,
};
pub use writer::{LayerWriter, WriteError, WriterOptions};

/// The chain ID of a stack of layers, lowest first: the name of the tree that they make together.
///
/// An empty stack, which the spec leaves open, has the digest of no bytes.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid>
pub fn chain_id(diff_ids: &[Digest]) -> Digest {
    let Some((lowest, rest)) = diff_ids.split_first() else { return Digest::sha256(b"") };
    rest.iter().fold(lowest.clone(), |below, diff_id| {
        Algorithm::Sha256.digest(format!("{below} {diff_id}").as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_id_folds_from_the_lowest_layer_up() {
        let [a, b, c] = [&b"a"[..], b"b", b"c"].map(Digest::sha256);
        let ab = Digest::sha256(format!("{a} {b}").as_bytes());
        let abc = Digest::sha256(format!("{ab} {c}").as_bytes());
        assert_eq!(chain_id(std::slice::from_ref(&a)), a);
        assert_eq!(chain_id(&[a, b, c]), abc);
    }
}
