//! The OpenAPI description of positions.

use super::WAITS_MAX;
use utoipa::openapi::{
    OpenApi, RefOr, Required,
    header::HeaderBuilder,
    path::{Operation, ParameterBuilder, ParameterIn},
    response::{Response, ResponseBuilder},
    schema::{ObjectBuilder, Type},
};

/// Adds the header parameter, the response headers and the error to every query of a document.
pub fn document_positions(document: &mut OpenApi) {
    for path in document.paths.paths.values_mut() {
        if let Some(query) = &mut path.get {
            describe(query);
        }
    }
}

fn describe(query: &mut Operation) {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let position = ParameterBuilder::new()
        .name("Daybook-Position")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(format!(
            "Positions from the `Daybook-Position` of commands' answers, separated by commas; the header may repeat. The \
             query waits until its view has applied them, for a bounded time. Positions of journals that the view does \
             not read are ignored, so a client can pass on all that it has. If {WAITS_MAX} requests already wait for the \
             view, the query does not wait."
        )))
        .schema(Some(text()))
        .example(Some("journal.orders/3@1234".into()))
        .build();
    query
        .parameters
        .get_or_insert_default()
        .push(position.into());
    let stale = HeaderBuilder::new()
        .description(Some(
            "`true` if the view has not applied every position of the request; `parked` if the answer lacks events that wait \
             for an operator; otherwise the header is missing.",
        ))
        .schema(Some(text()))
        .build();
    let lag = HeaderBuilder::new()
        .description(Some(
            "Only in a stale answer: for each partition, the number of offsets up to the request's position that the \
             view has not applied, such as `journal.orders/3=17`; `unknown` while the node starts.",
        ))
        .schema(Some(text()))
        .build();
    let refused = query.responses.responses.entry("400".to_owned());
    let refused = refused.or_insert_with(|| RefOr::T(ResponseBuilder::new().build()));
    if let RefOr::T(Response { description, .. }) = refused {
        let space = if description.is_empty() { "" } else { " " };
        description.push_str(space);
        description.push_str("POSITION_INVALID: the request's `Daybook-Position` is malformed.");
    }
    for response in query.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let headers = &mut response.headers;
            headers.insert("Daybook-Stale".to_owned(), stale.clone().into());
            headers.insert("Daybook-Lag".to_owned(), lag.clone().into());
        }
    }
}
