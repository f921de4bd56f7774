//! The composed system over real servers: `daybook serve` and the other subcommands as processes of
//! their own. `./dev test` starts the servers and says where they are.
//!
//! Each test is a scenario in a world of its own; they take turns, for Kafka's topics have fixed
//! names.

mod alteration;
mod bad_batches;
mod bad_records;
mod bad_requests;
mod bad_settings;
mod describe;
mod import;
mod interface;
mod interruption;
mod outage;
mod processes;
mod retries;
mod schema_outage;
