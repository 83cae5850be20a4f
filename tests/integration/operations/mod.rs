//! What operators live with: crashes, databases in trouble, stops, migrations, statements and their
//! plans.

mod cancellation;
pub mod crash;
mod database_faults;
pub mod database_trouble;
mod demo;
mod drain;
mod hook_edge;
mod key_rotation;
mod key_sets;
mod listeners;
mod metrics;
pub mod migrations;
mod overload;
mod personal_data;
pub mod plans;
pub mod private_cluster;
mod reseal;
mod schema;
mod settings;
pub mod statements;
mod supervisor;
mod traces;
mod upgrades;
