//! `daybook reconcile` with data that is not from the file, and while more data arrives.

use crate::import::import;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use system_tests::{Client, Deployment, Poll, node::Output, sale::import_sale, until};

/// A small file in the form of the data.
const FILE: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,A,cup,2,12/13/2010 8:26,1.00,7,EIRE
C2,B,tea,-1,12/13/2010 8:27,0.50,,Spain
";
/// The window of the sale in [`FILE`].
const WINDOW: &str = "2010-12-13T00:00:00Z/EIRE/GBP";
const WINDOWS_TOPIC: &str = "aggregates.revenue_by_country_day";
/// Sales of each batch while totals are compared.
const SALES: usize = 20;
/// Longest time until the first sales are accepted.
const SALES_TIMEOUT: Duration = Duration::from_secs(30);

pub async fn sales_outside_the_file_and_other_currencies_are_not_a_difference(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    import(deployment, &file(deployment)?).await?;
    sell(node.client(), "extra", ["GBP", "EUR", "JPY"]).await?;
    node.caught_up().await?;
    let output = reconcile(deployment).await?;
    ensure!(output.code == 0, "exit code is not 0: {output:?}");
    for total in ["GBP 1.50", "GBP 2.50", "EUR 1.00", "JPY 1"] {
        let rows = output.stdout.lines();
        let has_total = rows.filter(|row| row.trim_end().ends_with(total)).count();
        ensure!(
            has_total >= 2,
            "{has_total} rows instead of at least 2 end with {total}: {}",
            output.stdout
        );
    }
    Ok(())
}

pub async fn a_foreign_record_is_an_error_only_as_the_last_record_of_a_window(
    deployment: &Deployment,
) -> Result<()> {
    let mut node = deployment.serve().await?;
    import(deployment, &file(deployment)?).await?;
    node.caught_up().await?;
    write_foreign_record(deployment).await?;
    let output = reconcile(deployment).await?;
    let names_window = output.stderr.contains(WINDOW);
    ensure!(
        output.code == 1 && names_window,
        "not exit code 1 with an error that names {WINDOW}: {output:?}"
    );

    // The job publishes the window again.
    let sale = sale("again", "EIRE", "GBP");
    let answers = node.client().post_lines(format!("{sale}\n")).await?;
    ensure!(
        answers[0]["status"] == 201,
        "status is not 201: {answers:?}"
    );
    node.caught_up().await?;
    let output = reconcile(deployment).await?;
    let names_record = output.stderr.contains(&format!("{WINDOWS_TOPIC}/"));
    ensure!(
        output.code == 0 && names_record,
        "not exit code 0 with a warning that names {WINDOWS_TOPIC}: {output:?}"
    );
    Ok(())
}

pub async fn totals_are_compared_while_sales_arrive(deployment: &Deployment) -> Result<()> {
    let node = deployment.serve().await?;
    import(deployment, &file(deployment)?).await?;
    let (sold, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let selling = async {
        while !is_over.load(Ordering::Relaxed) {
            let batch = format!("batch {}", sold.load(Ordering::Relaxed));
            sell(node.client(), &batch, ["GBP", "EUR", "JPY"].repeat(SALES)).await?;
            sold.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let comparing = async {
        until("sales", SALES_TIMEOUT, async || {
            let sold = sold.load(Ordering::Relaxed);
            Ok(Poll::of(sold > 0, || "no sale is accepted".to_owned()))
        })
        .await?;
        let before = sold.load(Ordering::Relaxed);
        let output = reconcile(deployment).await;
        let after = sold.load(Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        let output = output?;
        ensure!(output.code == 0, "exit code is not 0: {output:?}");
        ensure!(
            after > before,
            "{after} batches of sales after the comparison, {before} before it"
        );
        Ok(())
    };
    let (sold, compared) = tokio::join!(selling, comparing);
    compared.and(sold)
}

fn file(deployment: &Deployment) -> Result<PathBuf> {
    let path = deployment.folder.join("sales.csv");
    std::fs::write(&path, FILE).with_context(|| path.display().to_string())?;
    Ok(path)
}

async fn reconcile(deployment: &Deployment) -> Result<Output> {
    let report = deployment.folder.join("import.json");
    let report = report.to_str().context("the folder is not UTF-8")?;
    let url = format!("http://{}", deployment.listen());
    let arguments = ["reconcile", "--report", report, "--url", &url];
    deployment.run(&arguments).await
}

async fn write_foreign_record(deployment: &Deployment) -> Result<()> {
    let brokers = deployment.environment.kafka_brokers.as_str();
    let topic = deployment.topic(WINDOWS_TOPIC);
    let arguments = [brokers, &topic, WINDOW, "this is not Avro"];
    deployment.python("produce.py", &arguments).await.map(drop)
}

/// Imports a sale for each currency; all must be accepted.
async fn sell(
    client: &Client,
    batch: &str,
    currencies: impl IntoIterator<Item = &str>,
) -> Result<()> {
    let sales = currencies.into_iter().enumerate();
    let lines = sales.map(|(number, currency)| {
        let country = format!("country {}", number % 7);
        sale(&format!("{batch}/{number}"), &country, currency).to_string() + "\n"
    });
    let answers = client.post_lines(lines.collect::<String>()).await?;
    let refused = answers.iter().find(|answer| answer["status"] != 201);
    ensure!(refused.is_none(), "{batch}: status is not 201: {refused:?}");
    Ok(())
}

/// A sale worth one major unit of its currency.
fn sale(key: &str, country: &str, currency: &str) -> Value {
    let mut body = system_tests::sale::sale(key);
    body["country"] = country.into();
    body["currency"] = currency.into();
    // The day of the file's invoices.
    body["ordered_at"] = "2010-12-13T08:26:00Z".into();
    import_sale(key, &body)
}
