//! Every statement that writes contacts, refs and numbers: the life of a contact from its first
//! record or call to its tombstone or alias. Each change raises the contact's version, and is in
//! the feed by the same transaction; but earlier aliases follow a survivor that becomes one itself
//! without a word, since its own change says so.
//!
//! `identity` alone calls this (`tests/architecture.rs`), and no statement elsewhere writes these
//! tables (`tests/integration/operations/statements/`), but for the mark of a sweep on the refs
//! that it has seen (`store::sweeps::mark_seen`). What is only looked up is elsewhere, unless it
//! locks or removes what it finds. Locks are taken in one order by everybody: integrations, refs by
//! their keys (byte by byte, not by the database's collation), contacts by their ids.

pub mod aliases;
pub mod contacts;
pub mod erasure;
pub mod numbers;
pub mod placeholders;
pub mod purge;
pub mod refs;
pub mod tombstones;
