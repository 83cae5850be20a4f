//! Who is who: survivors of merges, erasure, corrections.

mod corrections;
pub mod erasure;
mod survivors;
mod tombstones;
