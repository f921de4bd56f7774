//! `GET /api/v1/orders` and `GET /api/v1/orders/{id}`.

use super::tables::OrdersView;
use crate::{
    conditional::Versioned,
    databases::Databases,
    order::{
        self, Kind, OrderPage,
        detail::{self, OrderDetail},
        list::{self, Filter},
    },
    paging,
    problems::{ListProblems, QueryError, ResourceProblems, answer, answer_filtered},
    registration::Queries,
    view::View,
};
use axum::{Json, extract::State};
use schemas::TotalsAt;
use serde::Deserialize;
use service::{
    extract::{ApiPath, ApiQuery, NoParameters},
    problem::Problem,
};
use utoipa::IntoParams;
use utoipa_axum::routes;

/// The filters that reduce the number of rows that the list reads.
const SELECTIVE_FILTERS: [&str; 4] = ["customer", "country", "from", "to"];

/// The parameters of the list: filters and page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only orders of this customer.
    #[param(example = "17850")]
    customer: Option<String>,
    /// Only orders of this country, in the source's spelling.
    #[param(example = "United Kingdom")]
    country: Option<String>,
    /// Only sales, or only credit notes.
    #[param(inline, example = "SALE")]
    kind: Option<Kind>,
    /// Only orders from this time (RFC 3339) on.
    #[param(example = "2010-12-01T00:00:00Z")]
    from: Option<String>,
    /// Only orders before this time (RFC 3339).
    #[param(example = "2010-12-02T00:00:00Z")]
    to: Option<String>,
    /// Orders per page, 1 to 100; 20 by default.
    #[param(example = 20, minimum = 1, maximum = 100)]
    limit: Option<u16>,
    /// The `next_cursor` of the previous page.
    #[param(example = "cursor-of-the-next-page")]
    cursor: Option<String>,
}

/// The parameter in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct OrderPath {
    /// TypeID of an order or a credit note.
    #[param(example = "order_01h455vb4pex5vsknk084sn02q")]
    id: String,
}

pub(super) fn queries() -> Queries {
    vec![routes!(list_orders), routes!(get_order)]
}

/// Orders and credit notes, newest first.
#[utoipa::path(get, path = "/orders", tag = "orders", params(ListQuery), responses(
    (status = 200, description = "One page.", body = OrderPage), ListProblems))]
async fn list_orders(
    State(databases): State<Databases>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> Result<Json<OrderPage>, Problem> {
    let filter = check(query)?;
    answer_filtered(&SELECTIVE_FILTERS, || find_page(&databases, &filter))
        .await
        .map(Json)
}

/// One order or credit note with its lines.
///
/// A malformed id has the code INVALID_ORDER_ID.
#[utoipa::path(get, path = "/orders/{id}", tag = "orders", params(OrderPath), responses(
    (status = 200, description = "The order.", body = OrderDetail),
    (status = 404, description = "ORDER_NOT_FOUND: no order or credit note has this id.", body = Problem),
    ResourceProblems))]
async fn get_order(
    State(databases): State<Databases>,
    ApiPath(OrderPath { id }): ApiPath<OrderPath>,
    ApiQuery(NoParameters {}): ApiQuery<NoParameters>,
) -> Result<Versioned<OrderDetail>, Problem> {
    order::check_id(&id)?;
    let found = answer(|| find_one(&databases, &id)).await?;
    let body = found.ok_or_else(|| order::not_found(&id))?;
    Ok(Versioned {
        version: body.order.version,
        body,
    })
}

fn check(query: ListQuery) -> Result<Filter, Problem> {
    let text = |name, text: Option<&str>| text.map(|text| paging::text(name, text)).transpose();
    let time = |name, text: Option<&str>| text.map(|text| paging::time(name, text)).transpose();
    let customer = text("customer", query.customer.as_deref())?;
    let country = text("country", query.country.as_deref())?;
    let from = time("from", query.from.as_deref())?;
    let to = time("to", query.to.as_deref())?;
    let kind = query.kind.map(Kind::as_str);
    let list = paging::list(OrdersView::NAME, &(&customer, &country, kind, from, to));
    Ok(Filter {
        customer,
        country,
        invoice: None,
        kind: query.kind,
        from,
        to,
        limit: paging::limit(query.limit)?,
        after: paging::cursor(&list, query.cursor.as_deref())?,
        list,
    })
}

async fn find_page(databases: &Databases, filter: &Filter) -> Result<OrderPage, QueryError> {
    list::find_page(databases, databases.build::<OrdersView>()?, filter).await
}

async fn find_one(databases: &Databases, id: &str) -> Result<Option<OrderDetail>, QueryError> {
    detail::find_one(databases, databases.build::<OrdersView>()?, id).await
}

/// The totals of the whole view.
pub(super) async fn totals(databases: &Databases) -> Result<TotalsAt, QueryError> {
    order::totals::totals(databases, databases.build::<OrdersView>()?).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::NewestFirst;
    use schemas::Timestamp;

    fn query(query: &str) -> ListQuery {
        let uri = format!("/orders?{query}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn a_cursor_is_accepted_only_with_the_filters_of_its_page() {
        let key = NewestFirst {
            ordered_at: Timestamp(1),
            order_id: "order_1".into(),
        };
        let filters = [
            "",
            "country=France",
            "country=EIRE",
            "customer=France",
            "kind=SALE",
            "from=2010-12-01T00:00:00Z",
            "to=2010-12-01T00:00:00Z",
        ];
        for of_page in filters {
            let page = check(query(of_page)).unwrap();
            let cursor = paging::encode(&page.list, &key);
            for filter in filters {
                let next = check(query(&format!("{filter}&limit=7&cursor={cursor}")));
                match filter == of_page {
                    true => assert_eq!(next.unwrap().after.as_ref(), Some(&key), "{filter}"),
                    false => assert_eq!(next.unwrap_err().code, "INVALID_CURSOR", "{filter}"),
                }
            }
        }
    }
}
