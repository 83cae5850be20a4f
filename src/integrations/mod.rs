//! Links an account to a CRM: try it, enable, change, disable. HTTP first, then one transaction;
//! never both at once. What becomes of an integration is decided by `domain::integration_state`.

mod authorize;
mod context;
mod disable;
mod enable;
mod error;
mod push;
mod uninstall;
mod update;
mod verify;

pub use authorize::{
    AuthorizationRequest, AuthorizeError, ConsentOutcome, StartedAuthorization, complete_authorization,
    start_authorization,
};
pub use context::IntegrationContext;
pub use disable::disable;
pub use enable::{NewLink, enable};
pub use error::IntegrationError;
pub use push::{HookError, HookOutcome, HookReceiver};
pub use uninstall::{UninstallError, UninstallOutcome, prove_uninstall, uninstall};
pub use update::{SyncUpdate, update};
pub use verify::test_connection;
