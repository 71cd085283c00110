//! Erlang's data without Erlang: terms as text ([`text`]) and in the external format ([`external`]), and
//! compiled modules ([`Beam`]).
//!
//! - `term`: the [`Term`] type, its accessors and its printer
//! - `text`: the parser of what `file:consult` reads
//! - `external`: the decoder of `term_to_binary`, compressed or not
//! - `beam`: chunks, MD5, exports, imports and attributes of a `.beam` file

mod beam;
pub mod external;
mod term;
pub mod text;

pub use beam::{Beam, BeamError};
pub use term::Term;
