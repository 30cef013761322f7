//! For tests only: a model of POSIX ([`model`]), a language of random operations on it
//! ([`language`]), and what is put beside the model ([`side`]): the store's work trees
//! ([`store_side`]) here, the wire and a mount in the program's own tests; and faults in the
//! system calls of any code ([`faults`]), and what a process leaves that dies ([`image`]).

pub mod call;
pub mod faults;
pub mod image;
pub mod language;
pub mod model;
pub mod seed;
pub mod side;
pub mod store_side;

/// What the model is made of, for the store's own tests: their types are of the store compiled
/// for tests, and these are not.
pub use pocker_store::types;
