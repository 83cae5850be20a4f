//! Every statement that writes contacts, refs and numbers: the life of a contact from its first
//! record or call to its tombstone or alias. Each change raises the contact's version, and is in
//! the feed by the same transaction.
//!
//! `identity` alone calls this (`tests/architecture.rs`), and no statement elsewhere writes these
//! tables (`tests/integration/operations/statements/`). Look-ups are elsewhere. Locks are taken in
//! one order by everybody: integrations, refs by their keys (byte by byte, not by the database's
//! collation), contacts by their ids.

pub mod aliases;
pub mod contacts;
pub mod erasure;
pub mod numbers;
pub mod placeholders;
pub mod purge;
pub mod refs;
pub mod tombstones;
