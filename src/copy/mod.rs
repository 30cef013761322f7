//! Copies between a host and trees: what goes where ([`place`]), a host's files as an archive
//! ([`source`]), an archive below a directory of a host or of a run ([`below`], [`inside`]).

mod below;
mod body;
mod inside;
mod place;
mod source;

pub use below::{Below, Owner, plain};
pub use inside::{Asked, InsideError, copy_in, copy_out};
pub use place::{Found, Place, PlaceError, Source};
pub use source::{Host, SourceError};
