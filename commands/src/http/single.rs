//! One command in one request.

use crate::{
    envelope::CommandEnvelope,
    handle::{WriteSide, WriteSideHandle},
    metrics as names,
    outcome::{problem, to_response},
    request::{Accepted, CommandRequest, Execute, position},
    routing::in_flight::ANSWER_TIMEOUT,
};
use futures_util::future::BoxFuture;
use journal::owner::Refusal;
use service::{problem::Problem, trace::name_command};
use std::time::Instant;

impl Execute for WriteSideHandle {
    fn execute(&self, request: CommandRequest) -> BoxFuture<'_, Result<Accepted, Problem>> {
        Box::pin(async move {
            let write_side = self.get()?;
            let CommandRequest {
                principal,
                headers,
                command,
            } = request;
            let envelope = CommandEnvelope::new(&principal, headers.key.as_ref(), command);
            execute(
                &write_side,
                CommandEnvelope {
                    expected_version: headers.expected_version,
                    traceparent: headers.traceparent,
                    ..envelope
                },
            )
            .await
        })
    }
}

async fn execute(write_side: &WriteSide, command: CommandEnvelope) -> Result<Accepted, Problem> {
    let arrived = Instant::now();
    let name = command.name();
    // A command from outside starts a correlation of its own.
    name_command(&command.id.0, &command.id.0);
    let answered = answer(write_side, command).await;
    let status = match &answered {
        Ok(accepted) => accepted.status,
        Err(problem) => problem.status,
    };
    let status = status.as_u16().to_string();
    metrics::counter!(names::COMMANDS, "command" => name, "status" => status).increment(1);
    metrics::histogram!(names::COMMAND_SECONDS, "command" => name).record(arrived.elapsed());
    answered
}

async fn answer(write_side: &WriteSide, command: CommandEnvelope) -> Result<Accepted, Problem> {
    let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
    let in_flight = write_side.router.in_flight(command, deadline);
    let in_flight = in_flight.map_err(|error| problem(Refusal::Unencodable(error.to_string())))?;
    let (topic, id) = (in_flight.target().topic, in_flight.subject().to_owned());
    let (status, answer) = to_response(write_side.router.run(in_flight).await)?;
    Ok(Accepted {
        status,
        id,
        version: answer.version,
        position: position(topic, answer.partition, answer.offset),
        replayed: answer.replayed,
    })
}
