//! A command as clients send it: each command's file in a context's folder implements [`ApiCommand`]. HTTP,
//! batches and other nodes need nothing else.

use crate::{
    command::{CommandContext, ErasedCommand, Target},
    identity::HashError,
    owners::TypedCommand,
    request::Executor,
};
use domain::Decider;
use journal::owner::{Machine, Request};
use schemas::Origin;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use service::trace::trace_id;
use std::fmt::Debug;
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};
use utoipa_axum::router::OpenApiRouter;

/// A command's body, and its mapping to the domain's terms. Its fields check themselves when they are
/// deserialised (see [`crate::fields`]), so a value of this type is well-formed.
pub trait ApiCommand:
    Serialize + DeserializeOwned + ToSchema + Debug + Send + Sync + 'static
{
    /// The aggregate that decides it.
    type Aggregate: InContext;
    /// The command's name, unique among all contexts. It is part of a keyed command's id, so it must never
    /// change.
    const NAME: &'static str;

    /// The aggregate that the command is for. It determines the record's key and the scope of an idempotency
    /// key.
    fn target(&self) -> Target<'_>;

    /// Converts the command for the decider.
    fn to_domain(&self) -> <Self::Aggregate as Decider>::Command;

    /// The command's own route under `/api/v1`, with its part of the OpenAPI document. Without one, the
    /// command can only be sent in a batch.
    fn routes() -> OpenApiRouter<Executor> {
        OpenApiRouter::new()
    }
}

/// The context of an aggregate, and the conversion to the context's command type.
pub trait InContext: Decider {
    /// The machine that decides for the context's aggregates.
    type Machine: Machine;

    /// Converts the aggregate's command to the machine's.
    fn into_context(command: Self::Command) -> <Self::Machine as Machine>::Command;
}

impl<C: ApiCommand> ErasedCommand for C {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn scope(&self) -> String {
        match ApiCommand::target(self) {
            Target::Named(id) => format!("{}/{id}", C::NAME),
            Target::CreatedByThisCommand => C::NAME.to_owned(),
        }
    }

    fn target(&self) -> Target<'_> {
        ApiCommand::target(self)
    }

    fn to_json(&self) -> Result<Box<RawValue>, serde_json::Error> {
        serde_json::value::to_raw_value(self)
    }

    fn prepare(&self, context: &CommandContext<'_>) -> Result<TypedCommand, HashError> {
        let aggregate_type = C::Aggregate::AGGREGATE_TYPE;
        let key = match ApiCommand::target(self) {
            Target::Named(id) => format!("{aggregate_type}_{id}"),
            // A TypeID is `<type>_<suffix>`, which is already the form of a record's key.
            Target::CreatedByThisCommand => context.id.aggregate_id(aggregate_type),
        };
        let request = Request {
            key,
            command: C::Aggregate::into_context(self.to_domain()),
            id: context.id,
            hash: context.hasher.hash(C::NAME, self)?,
            origin: match context.keyed {
                true => Origin::Keyed,
                false => Origin::Server,
            },
            actor: context.actor.to_owned(),
            // A command from outside starts a correlation of its own.
            correlation_id: context.id.0,
            causation_id: None,
            traceparent: context.traceparent.map(str::to_owned),
            trace_id: context.traceparent.and_then(trace_id),
            expected_version: context.expected_version,
            received_at: context.received_at,
        };
        Ok(TypedCommand::new::<<C::Aggregate as InContext>::Machine>(
            request,
            context.partitions,
        ))
    }
}

/// A command's body, or the reason why it can't be read.
pub type ReadBody = Result<Box<dyn ErasedCommand>, service::json::JsonError>;

/// One entry of the registry of commands.
pub struct CommandType {
    /// See [`ApiCommand::NAME`].
    pub name: &'static str,
    /// Reads a body from JSON.
    read: fn(&[u8]) -> ReadBody,
    /// See [`ApiCommand::routes`].
    pub routes: fn() -> OpenApiRouter<Executor>,
    /// Adds the body's schema, and the schemas that it refers to, to the OpenAPI document.
    pub schemas: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl CommandType {
    /// The registry's entry for the command `C`.
    pub const fn of<C: ApiCommand>() -> Self {
        Self {
            name: C::NAME,
            read: |body| Ok(Box::new(service::json::read::<C>(body)?)),
            routes: C::routes,
            schemas: |schemas| {
                schemas.push((C::name().into_owned(), C::schema()));
                C::schemas(schemas);
            },
        }
    }

    /// Reads a body from JSON.
    ///
    /// # Errors
    /// The text is not JSON, or a field can't be accepted; the error names its path.
    pub fn read(&self, body: &[u8]) -> ReadBody {
        (self.read)(body)
    }
}
