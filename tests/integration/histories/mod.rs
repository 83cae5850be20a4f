//! Everything at once: seeded histories against the truth of the CRM, and the rules that always
//! hold.

mod chaos;
pub mod integrity;
pub mod oracle;
mod simulated_history;
