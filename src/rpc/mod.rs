//! Edge in: owns tonic and the generated types. Every handler has three beats: parse the request
//! into domain types, call one feature (or read the store), turn the answer into proto. A request's
//! account comes from `request_caller::caller`, by its token, and from nowhere else.

pub mod audit;
pub mod auth;
pub mod claims;
pub mod deadline;
pub mod health;
pub mod jwks;
pub mod limits;
pub mod local_token;
pub mod methods;
pub mod pb;
pub mod server;

mod account;
mod account_requests;
mod audit_events;
mod body;
mod call_notes;
mod call_record;
mod caller;
mod connection;
mod contact;
mod convert;
mod errors;
mod frames;
mod gate;
mod page_token;
mod parse;
mod parse_credentials;
mod rejected;
mod request_caller;
mod room;
mod start_authorization;
mod status;
mod sync;
mod sync_requests;
mod together;
mod watchers;

pub use account::AccountRpc;
pub use call_record::code_name;
pub use caller::CallerRpc;
pub use contact::ContactRpc;
pub use sync::SyncRpc;
pub use watchers::WatchRoom;
