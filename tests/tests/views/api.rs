//! The queries of all views, behind HTTP.

use projections::Databases;
use serde_json::Value;

/// Serves the queries; returns their address.
pub async fn serve(databases: &Databases) -> String {
    let (router, _) = projections::routes(databases).split_for_parts();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

pub async fn get(url: &str) -> (u16, Value) {
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

/// Asserts that a request is answered with a problem.
pub async fn assert_problem(url: &str, status: u16, code: &str) {
    let (found, problem) = get(url).await;
    assert_eq!(
        (found, problem["code"].as_str()),
        (status, Some(code)),
        "{url}: {problem}"
    );
}

/// Follows the cursors from the first page to the last: the items of `list` on every page. `url` has a query.
pub async fn pages(url: &str, list: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&format!("{url}{cursor}")).await;
        assert_eq!(status, 200, "{url}: {page}");
        items.extend(page[list].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// The texts of one field of items.
pub fn texts(items: &[Value], field: &str) -> Vec<String> {
    let text = |item: &Value| item[field].as_str().unwrap().to_owned();
    items.iter().map(text).collect()
}
