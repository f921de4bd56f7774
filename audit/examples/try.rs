//! temporary
#[path = "../tests/support/mod.rs"]
mod support;
use clap::Parser;
#[derive(Parser)]
enum Cli { Fill { #[arg(long, default_value_t = 0)] many: usize }, Totals, #[command(flatten)] Audit(Audit) }
#[derive(clap::Subcommand)]
enum Audit { Audit(audit::Args) }
#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    let kafka = kafka::KafkaSettings { brokers: "127.0.0.1:29192".into(), ..Default::default() };
    let registry = kafka::RegistrySettings { url: "http://127.0.0.1:28181/apis/ccompat/v7".into(), ..Default::default() };
    match Cli::parse() {
        Cli::Audit(Audit::Audit(args)) => return audit::run(args, &kafka, &registry).await,
        Cli::Totals => println!("{:?}", audit::journal_totals(&kafka, &registry).await?),
        Cli::Fill { many } => {
            kafka::Admin::new(&kafka)?.ensure(&schemas::topics::TOPICS).await?;
            let r = kafka::Registry::new(&registry)?;
            for n in 1..support::SCHEMA_ID { let id = r.ensure(&format!("dummy{n}"), &format!("{{\"type\":\"record\",\"name\":\"D{n}\",\"fields\":[]}}")).await?; eprintln!("{id}"); }
            let id = r.ensure("journal.orders-value", &support::schema()).await?;
            assert_eq!(id, support::SCHEMA_ID);
            let mut journal = support::Journal::with_every_kind();
            for i in 0..many { journal.decide_as(&format!("order_{}", 100 + i), 0, 1, { let mut b = [0xcc; 16]; b[..8].copy_from_slice(&(i as u64).to_be_bytes()); b }); }
            let appender = kafka::Appender::new(&kafka)?;
            let (line, mut reports) = appender.line(support::TOPIC, support::PARTITION, 1000);
            for (i, record) in journal.records.iter().enumerate() {
                line.append(record.key.as_ref().unwrap(), record.value.as_ref().unwrap(), &[], i as u64)?;
                let report = reports.recv().await.unwrap();
                assert_eq!(report.result, Ok(record.offset));
            }
        }
    }
    Ok(std::process::ExitCode::SUCCESS)
}
