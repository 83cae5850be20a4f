//! What clients see: methods, the audit, rights, bad input, JSON, the command line.

mod accounts;
pub mod audit;
mod authorization;
mod bad_input;
pub mod command_line;
mod command_line_refusals;
mod contacts;
mod isolation;
mod json_answers;
pub mod methods;
mod scopes;
