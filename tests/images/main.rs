//! Archives and images that come and go: every kind that is written and read, and what is refused.

mod hostile;
mod kinds;
mod layers;
mod make;
#[path = "../support/mod.rs"]
mod support;
