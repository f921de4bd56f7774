//! Turns an owner's answer into an HTTP response.

use axum::http::StatusCode;
use journal::owner::{Answer, Refusal};
use schemas::{Outcome, OutcomeKind};
use serde_json::Value;
use service::problem::Problem;

/// The HTTP status of a stored outcome.
pub fn status_of(kind: OutcomeKind) -> StatusCode {
    match kind {
        OutcomeKind::AlreadySo => StatusCode::OK,
        OutcomeKind::NotFound => StatusCode::NOT_FOUND,
        OutcomeKind::Conflict => StatusCode::CONFLICT,
        OutcomeKind::Forbidden => StatusCode::FORBIDDEN,
        // An unknown kind was written by newer software, and is a rejection, too.
        OutcomeKind::Invalid | OutcomeKind::Unknown => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// The status and the answer of an accepted command: 201 if events were recorded, 200 if there was
/// nothing to change.
///
/// # Errors
/// The problem of a rejected or unanswered command.
pub fn to_response(answered: Result<Answer, Refusal>) -> Result<(StatusCode, Answer), Problem> {
    let answer = answered.map_err(problem)?;
    match &answer.outcome {
        None => Ok((StatusCode::CREATED, answer)),
        Some(outcome) if outcome.kind == OutcomeKind::AlreadySo => {
            Ok((status_of(outcome.kind), answer))
        }
        Some(outcome) => Err(rejected(outcome, &answer)),
    }
}

/// A stored rejection. Its code and detail come from the log, so they are not known at compile time and go
/// into the body unchanged.
fn rejected(outcome: &Outcome, answer: &Answer) -> Problem {
    let detail: Value = serde_json::from_slice(&outcome.detail).unwrap_or(Value::Null);
    let text = detail["detail"].as_str().unwrap_or_default().to_owned();
    let mut problem = Problem::new(status_of(outcome.kind), "REJECTED", text)
        .with("code", &outcome.code)
        .with("version", answer.version);
    if answer.replayed {
        problem = problem.with("replayed", true);
    }
    problem
}

/// The problem of a refusal, which is not stored in the log.
pub fn problem(refusal: Refusal) -> Problem {
    let advice = match &refusal {
        Refusal::VersionMismatch { .. } => {
            "; if the command still applies, send the current version in If-Match"
        }
        Refusal::Busy(_) | Refusal::NotOwner(_) | Refusal::Unavailable(_) => {
            "; send the command again later, with the same idempotency key"
        }
        Refusal::KeyReused
        | Refusal::TooLarge { .. }
        | Refusal::Forbidden(_)
        | Refusal::Unencodable(_) => "",
    };
    let detail = format!("{refusal}{advice}");
    match refusal {
        Refusal::KeyReused => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "IDEMPOTENCY_KEY_REUSED",
            detail,
        ),
        Refusal::VersionMismatch { current, .. } => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "VERSION_MISMATCH", detail)
                .with("version", current)
        }
        Refusal::TooLarge { bytes_max, .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "COMMIT_TOO_LARGE", detail)
                .with("bytes_max", bytes_max)
        }
        Refusal::Forbidden(_) => Problem::new(StatusCode::FORBIDDEN, "JOURNAL_FORBIDDEN", detail),
        Refusal::Unencodable(_) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "COMMIT_UNENCODABLE",
            detail,
        ),
        Refusal::Busy(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", detail),
        Refusal::NotOwner(_) | Refusal::Unavailable(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "JOURNAL_UNAVAILABLE",
            detail,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outcome: Option<Outcome>) -> Answer {
        Answer {
            partition: 0,
            offset: 1,
            version: 2,
            events: 0,
            outcome,
            replayed: true,
        }
    }

    fn outcome(kind: OutcomeKind, code: &str, detail: &str) -> Outcome {
        Outcome {
            kind,
            code: code.to_owned(),
            detail: detail.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_stored_rejection_keeps_its_code_and_text() {
        let detail = r#"{"detail":"the product does not exist"}"#;
        let stored = outcome(OutcomeKind::NotFound, "PRODUCT_NOT_FOUND", detail);
        let body = to_response(Ok(answer(Some(stored)))).unwrap_err().body();
        assert_eq!(body["status"], 404);
        assert_eq!(body["code"], "PRODUCT_NOT_FOUND");
        assert_eq!(body["detail"], "the product does not exist");
        assert_eq!(body["replayed"], true);
    }

    #[test]
    fn an_accepted_command_is_201_and_one_without_changes_is_200() {
        let already_so = outcome(OutcomeKind::AlreadySo, "ALREADY_SO", "{}");
        let status = |stored| to_response(Ok(answer(stored))).map(|(status, _)| status);
        assert_eq!(status(Some(already_so)), Ok(StatusCode::OK));
        assert_eq!(status(None), Ok(StatusCode::CREATED));
    }

    #[test]
    fn each_kind_of_outcome_has_its_status() {
        for (kind, status) in [
            (OutcomeKind::AlreadySo, 200),
            (OutcomeKind::NotFound, 404),
            (OutcomeKind::Conflict, 409),
            (OutcomeKind::Invalid, 422),
            (OutcomeKind::Forbidden, 403),
            (OutcomeKind::Unknown, 422),
        ] {
            assert_eq!(status_of(kind).as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn each_refusal_has_its_status_and_code() {
        let (current, expected, bytes, bytes_max) = (2, 1, 9, 8);
        for (refusal, status, code) in [
            (Refusal::KeyReused, 422, "IDEMPOTENCY_KEY_REUSED"),
            (
                Refusal::VersionMismatch { current, expected },
                412,
                "VERSION_MISMATCH",
            ),
            (
                Refusal::TooLarge { bytes, bytes_max },
                413,
                "COMMIT_TOO_LARGE",
            ),
            (Refusal::Forbidden("no".into()), 403, "JOURNAL_FORBIDDEN"),
            (Refusal::Unencodable("no".into()), 500, "COMMIT_UNENCODABLE"),
            (Refusal::Busy("no".into()), 503, "BUSY"),
            (Refusal::NotOwner("no".into()), 503, "JOURNAL_UNAVAILABLE"),
            (
                Refusal::Unavailable("no".into()),
                503,
                "JOURNAL_UNAVAILABLE",
            ),
        ] {
            let problem = problem(refusal);
            assert_eq!((problem.status.as_u16(), problem.code), (status, code));
        }
    }
}
