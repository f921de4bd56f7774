//! Each context's state machine and commands, from the registry of contexts in `domain`.
//!
//! A context's folder holds its commands: a file per command, listed in the folder's `mod.rs`. A macro
//! generates the rest from the registry's line: the machine that the journal's owners run, and the unions of
//! its aggregates' states and commands.

use crate::{api_command::CommandType, owners::ContextStart};
use domain::{Decider, Rejection};
use schemas::Outcome;

/// Lists a context's commands, in its folder's `mod.rs`: `commands! { product { create::CreateProduct } }` declares
/// the file `product/create.rs`, whose command is `CreateProduct`.
macro_rules! commands {
    ($($aggregate:ident { $($file:ident :: $command:ident),+ $(,)? })*) => {
        $(
            #[doc = concat!("Commands of the aggregate `", stringify!($aggregate), "`.")]
            pub mod $aggregate {
                $(pub mod $file;)+
            }
        )*

        /// The context's commands.
        pub const COMMANDS: &[$crate::api_command::CommandType] = &[
            $($($crate::api_command::CommandType::of::<$aggregate::$file::$command>()),+),*
        ];
    };
}

/// Declares each context's folder and generates its machine.
///
/// A state gets only commands and events of its own aggregate: the router sends a command to the state of its
/// key, and a reader halts before a decision whose events belong to another aggregate than its key. After a
/// bug in either, the machine panics, because its state would be wrong.
macro_rules! generate_machines {
    ($($context:ident { $($module:ident :: $aggregate:ident),+ $(,)? })+) => {
        $(
            pub mod $context;
        )+

        /// The machines that decide for contexts, one module for each.
        pub mod machines {
            $(
                #[doc = concat!("The machine of the context `", stringify!($context), "`.")]
                pub mod $context {
                    use domain::{Decider as _, $($module),+};
                    use schemas::{AggregateEvent, Outcome, $context::Event};

                    /// Decides for the context's aggregates.
                    #[derive(Debug, Clone, Copy)]
                    pub struct Context;

                    /// The state of one aggregate.
                    #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
                    pub enum State {
                        $(
                            #[doc = concat!("The state of the aggregate `", stringify!($module), "`.")]
                            $aggregate($module::State)
                        ),+
                    }

                    /// A command for one aggregate.
                    #[derive(Debug, Clone)]
                    pub enum Command {
                        $(
                            #[doc = concat!("A command for the aggregate `", stringify!($module), "`.")]
                            $aggregate($module::Command)
                        ),+
                    }

                    $(
                        impl $crate::api_command::InContext for domain::$aggregate {
                            type Machine = Context;

                            fn into_context(command: $module::Command) -> Command {
                                Command::$aggregate(command)
                            }
                        }
                    )+

                    impl journal::owner::Machine for Context {
                        const FOLD_VERSION: u32 = $crate::contexts::$context::FOLD_VERSION;
                        type Event = Event;
                        type State = State;
                        type Command = Command;

                        fn blank(&self, aggregate_type: &str) -> Option<State> {
                            $(
                                if aggregate_type == domain::$aggregate::AGGREGATE_TYPE {
                                    return Some(State::$aggregate($module::State::default()));
                                }
                            )+
                            None
                        }

                        #[allow(unreachable_patterns, reason = "a context may have a single aggregate")]
                        fn decide(
                            &self,
                            state: &State,
                            command: &Command,
                        ) -> Result<Vec<Event>, Outcome> {
                            match (state, command) {
                                $(
                                    (State::$aggregate(state), Command::$aggregate(command)) => {
                                        $crate::contexts::decide::<domain::$aggregate>(state, command)
                                    }
                                )+
                                (state, command) => unreachable!(
                                    "{command:?} has the key of another aggregate type: {state:?}"
                                ),
                            }
                        }

                        fn evolve(&self, state: State, event: &Event) -> State {
                            match state {
                                $(
                                    State::$aggregate(state) => State::$aggregate(
                                        match AggregateEvent::of_context(event) {
                                            Some(event) => domain::$aggregate::evolve(state, event),
                                            None => unreachable!(
                                                "{event:?} belongs to another aggregate type: {state:?}"
                                            ),
                                        },
                                    ),
                                )+
                            }
                        }
                    }
                }
            )+
        }

        /// Every context, to start its owners.
        pub const CONTEXTS: &[&dyn ContextStart] = &[$(&machines::$context::Context),+];

        /// Every command, by context.
        const COMMANDS: &[&[CommandType]] = &[$($context::COMMANDS),+];
    };
}

domain::contexts!(generate_machines);

/// Every command that clients can send.
pub fn all_commands() -> impl Iterator<Item = &'static CommandType> {
    COMMANDS.iter().copied().flatten()
}

/// The command with a name such as `CreateProduct`.
pub fn command(name: &str) -> Option<&'static CommandType> {
    all_commands().find(|command| command.name == name)
}

/// Decides for one aggregate. A rejection becomes the stored outcome, which is the client's answer now and on
/// every retry.
fn decide<D: Decider>(
    state: &D::State,
    command: &D::Command,
) -> Result<Vec<<D::Event as schemas::AggregateEvent>::Context>, Outcome> {
    let events = D::decide(state, command).map_err(|rejection| rejection_outcome(&rejection))?;
    let events = events.into_iter();
    Ok(events.map(schemas::AggregateEvent::into_context).collect())
}

/// The stored form of a rejection.
fn rejection_outcome(rejection: &impl Rejection) -> Outcome {
    let detail = serde_json::json!({ "detail": rejection.to_string() });
    Outcome {
        kind: rejection.kind().into(),
        code: rejection.code().to_owned(),
        detail: detail.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::owner::Machine as _;
    use std::collections::BTreeSet;

    #[test]
    fn command_names_are_unique() {
        let names: BTreeSet<&str> = all_commands().map(|command| command.name).collect();
        assert_eq!(names.len(), all_commands().count(), "{names:?}");
    }

    #[test]
    fn every_context_has_a_machine() {
        let machines: BTreeSet<&str> = CONTEXTS.iter().map(|start| start.context().name).collect();
        let contexts: BTreeSet<&str> = schemas::CONTEXTS
            .iter()
            .map(|context| context.name)
            .collect();
        assert_eq!(machines, contexts);
    }

    #[test]
    fn an_aggregate_type_of_another_context_has_no_state() {
        let machine = machines::orders::Context;
        assert!(machine.blank("order").is_some());
        assert!(machine.blank("creditnote").is_some());
        let blank = machine.blank("product");
        assert!(blank.is_none(), "{blank:?} instead of no state");
    }

    #[test]
    fn a_rejection_is_stored_with_its_kind_code_and_text() {
        let rejection = domain::product::Rejection::Unknown;
        let outcome = rejection_outcome(&rejection);
        assert_eq!(outcome.kind, schemas::OutcomeKind::NotFound);
        assert_eq!(outcome.code, "PRODUCT_NOT_FOUND");
        assert_eq!(
            outcome.detail,
            br#"{"detail":"the product does not exist; create it before you set its price"}"#
        );
    }
}
