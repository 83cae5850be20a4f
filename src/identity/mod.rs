//! Which contact a record or a number is. The only caller of `store::contact_writes`, and so the
//! only writer of contacts, refs and numbers. It talks to `store` alone; it knows no CRM and no
//! RPC.

pub mod adoption;
pub mod corrections;
pub mod erasure;
mod named_merges;
pub mod placeholder;
pub mod purge;
pub mod records;
pub mod registration;
pub mod renumber;
pub mod requester;
mod revival;
