//! Follows CRMs' streams of changes: of each integration one process at a time, under a lease of
//! its own, beside all runs. What comes becomes hints; no checkpoint moves, and polls stay the
//! truth.
//!
//! Each file uses those above it, and none below: `next_step` · `writes` · `standing` · `follower`
//! · `keeper` · `supervisor`.

mod follower;
mod keeper;
mod next_step;
mod standing;
mod supervisor;
mod writes;

pub use supervisor::StreamSupervisor;
