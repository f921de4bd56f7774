//! From what an owner says to what a client is told.

use axum::http::StatusCode;
use journal::owner::{Answer, Refusal};
use schemas::Outcome;
use serde_json::{Value, json};
use service::problem::Problem;

/// A rejection as it is stored with its commit: the client's answer, now and on every retry.
pub fn refusal(status: i32, code: &str, rejection: &impl std::error::Error) -> Outcome {
    let detail = json!({ "detail": rejection.to_string() })
        .to_string()
        .into_bytes();
    Outcome {
        status,
        code: code.to_owned(),
        detail,
    }
}

/// What a command came to, for a client that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// 201 if something was recorded, 200 if it was already so.
    pub status: StatusCode,
    /// The owner's answer.
    pub answer: Answer,
}

/// A client's answer: done, or a problem.
pub fn settle(answered: Result<Answer, Refusal>) -> Result<Done, Problem> {
    let answer = answered.map_err(problem)?;
    match &answer.outcome {
        None => Ok(Done {
            status: StatusCode::CREATED,
            answer,
        }),
        Some(outcome) if (200..300).contains(&outcome.status) => Ok(Done {
            status: StatusCode::OK,
            answer,
        }),
        Some(outcome) => Err(rejected(outcome, &answer)),
    }
}

/// A stored rejection. Its code and detail are the log's, so they are not ours to know at compile
/// time: they go into the body as they stand.
fn rejected(outcome: &Outcome, answer: &Answer) -> Problem {
    let status = u16::try_from(outcome.status)
        .ok()
        .and_then(|s| StatusCode::from_u16(s).ok());
    let status = status.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let detail: Value = serde_json::from_slice(&outcome.detail).unwrap_or(Value::Null);
    let text = detail["detail"].as_str().unwrap_or_default().to_owned();
    let mut problem = Problem::new(status, "REJECTED", text)
        .with("code", &outcome.code)
        .with("version", answer.version);
    if answer.replayed {
        problem = problem.with("replayed", true);
    }
    problem
}

/// A refusal that stands in no commit.
pub fn problem(refusal: Refusal) -> Problem {
    let detail = refusal.to_string();
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

    #[test]
    fn a_stored_rejection_keeps_its_code_and_words() {
        let error = domain::product::Rejection::Unknown;
        let stored = refusal(404, error.code(), &error);
        let body = settle(Ok(answer(Some(stored)))).unwrap_err().body();
        assert_eq!(body["status"], 404);
        assert_eq!(body["code"], "PRODUCT_NOT_FOUND");
        assert_eq!(body["detail"], "there is no such product");
        assert_eq!(body["replayed"], true);
    }

    #[test]
    fn already_so_is_no_problem() {
        let outcome = Outcome {
            status: 200,
            code: "ALREADY_SO".into(),
            detail: b"{}".to_vec(),
        };
        assert_eq!(
            settle(Ok(answer(Some(outcome)))).unwrap().status,
            StatusCode::OK
        );
        assert_eq!(
            settle(Ok(answer(None))).unwrap().status,
            StatusCode::CREATED
        );
    }

    #[test]
    fn each_refusal_has_a_status_and_a_code_of_its_own() {
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
