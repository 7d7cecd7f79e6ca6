//! The books: what the topics, the bank, the shelves and the broker say of the same orders must agree.

use std::collections::BTreeMap;

use millstream_client::Client;

use crate::{
    Error,
    article::Article,
    bank::{Mood, mood},
    letters,
    log::{self, Log},
    logistics::Logistics,
    order::{Order, OrderId},
    payment::Payment,
    report::Report,
    run::Figures,
    service::Crew,
    status::Status,
    stock::Stock,
    topics,
};

/// What is compared with the topics.
pub(crate) struct Books<'a> {
    pub(crate) orders: &'a [Order],
    /// Pieces on the shelves before the first order.
    pub(crate) delivered: BTreeMap<Article, u32>,
    pub(crate) stock: &'a Stock,
    pub(crate) payment: &'a Payment,
    pub(crate) logistics: &'a Logistics,
}

/// Reads the topics back, and checks everything.
pub(crate) async fn check(
    client: &Client,
    books: &Books<'_>,
    figures: &Figures,
    crews: &[Crew],
    report: &mut Report,
) -> Result<(), Error> {
    let logs = log::read(client).await?;
    check_orders(books.orders, figures, &logs, report);
    check_money(books, &logs, report);
    check_shelves(books, &logs, report);
    check_letters(client, books.orders, figures, report).await?;
    check_express(client, books.logistics, &logs, report).await?;
    for crew in crews {
        let (name, counts) = (crew.name, crew.tally.counts());
        report.check(format!("{name}: messages left"), 0, left(client, name).await?);
        report.service(name, crew.workers, counts);
        if crew.dies_at.is_some() {
            report.check(format!("{name}: workers that died, and were replaced"), 1, counts.killed);
            let again = counts.redelivered > 0 && counts.without_change > 0;
            report.check(format!("{name}: what had been done came again, and changed nothing"), true, again);
        }
    }
    tell(figures, &logs, report);
    report.tables();
    Ok(())
}

/// Records of a subscription that are not settled.
pub(crate) async fn left(client: &Client, name: &'static str) -> Result<u64, Error> {
    let info = client.describe_subscription(topics::subscription(name)).await?;
    Ok(info.positions.iter().map(|at| (at.latest - at.settled).max(at.leased + at.waiting)).sum())
}

type Logs = BTreeMap<OrderId, Log>;

fn check_orders(orders: &[Order], figures: &Figures, logs: &Logs, report: &mut Report) {
    report.check("orders placed", orders.len(), figures.placed);
    report.check("orders in the topics", orders.len(), logs.len());
    let as_placed = orders.iter().filter(|order| {
        logs.get(&order.id).and_then(|log| log.order.as_ref()).is_some_and(|found| found == *order)
    });
    report.check("orders as they were placed", orders.len(), as_placed.count());
    report.check("orders with exactly one end", orders.len(), ended(logs, |_| true));
    let illegal: Vec<_> = logs.iter().filter(|(_, log)| !log.is_legal()).collect();
    for (id, log) in illegal.iter().take(10) {
        report.say(&format!("  {id} is not legal: {:?}, {:?}", log.events, log.statuses));
    }
    report.check("orders whose log is not a legal sequence", 0, illegal.len());
}

fn check_money(books: &Books<'_>, logs: &Logs, report: &mut Report) {
    let (mut twice, mut differing, mut failures) = (0, 0, 0);
    for (id, log) in logs {
        let account = books.payment.bank().account(*id);
        twice += u32::from(account.charges > 1);
        let said = [Status::Paid, Status::Refunded, Status::Declined].map(|status| log.count(status));
        differing += u32::from(said != [account.charges, account.refunds, account.declines]);
        // A failed attempt more, or one less, is an attempt that should not have been.
        failures += u32::from(matches!(mood(*id), Mood::Fails(times) if times != account.failed));
    }
    report.check("orders charged twice", 0, twice);
    report.check("orders where the bank and the log differ", 0, differing);
    report.check("orders that were not tried as often as the bank failed", 0, failures);
}

fn check_shelves(books: &Books<'_>, logs: &Logs, report: &mut Report) {
    let mut expected = books.delivered.clone();
    for log in logs.values() {
        let Some(order) = &log.order else { continue };
        let taken = log.count(Status::Reserved).saturating_sub(log.count(Status::Released));
        let left = expected.entry(order.article).or_default();
        *left = left.saturating_sub(taken * order.pieces);
    }
    let differing =
        books.stock.left().into_iter().filter(|(article, left)| expected.get(article) != Some(left));
    let differing: Vec<_> = differing.map(|(article, left)| format!("{left} of {article}")).collect();
    if !differing.is_empty() {
        report.say(&format!("  on the shelves, and not by the log: {}", differing.join(", ")));
    }
    report.check("articles whose shelf and log differ", 0, differing.len());
}

async fn check_letters(
    client: &Client,
    orders: &[Order],
    figures: &Figures,
    report: &mut Report,
) -> Result<(), Error> {
    let away = orders.iter().filter(|order| mood(order.id) == Mood::Away).count();
    report.check("dead letters: the orders for which the bank was away", away, figures.letters);
    report.check("dead letters sent back", figures.letters, figures.redriven);
    report.check("dead letters since", 0, letters::written(client).await? - figures.letters);
    report.check("dead letters open", 0, letters::open(client).await?.len());
    Ok(())
}

async fn check_express(
    client: &Client,
    logistics: &Logistics,
    logs: &Logs,
    report: &mut Report,
) -> Result<(), Error> {
    let ready: u32 = logs.values().map(|log| log.count(Status::Ready)).sum();
    let updates: usize = logs.values().map(|log| log.statuses.len()).sum();
    report.check("express orders shipped", ready, ended(logs, |end| end == Status::Shipped));
    report.check("messages at logistics that are not express", 0, logistics.strange());
    let info = client.describe_subscription(topics::subscription(topics::LOGISTICS_DESK)).await?;
    let counters = info.counters;
    report.check("status updates that the filter read", updates, counters.records_in);
    report.check("status updates that it held back", updates - ready as usize, counters.dropped);
    Ok(())
}

/// The figures for the table.
fn tell(figures: &Figures, logs: &Logs, report: &mut Report) {
    let count = |status| logs.values().filter(|log| log.count(status) > 0).count();
    report.fact("orders", logs.len());
    report.fact("posted", count(Status::Posted));
    report.fact("express_shipped", count(Status::Shipped));
    report.fact("cancelled", count(Status::Cancelled));
    report.fact("of_those_sold_out", count(Status::SoldOut));
    report.fact("of_those_declined", count(Status::Declined));
    report.fact("dead_letters", figures.letters);
    report.fact("redriven", figures.redriven);
    report.fact("placed_ms", figures.placed_in.as_millis() as u64);
    report.fact("ended_without_bank_ms", figures.without_bank_in.as_millis() as u64);
    report.fact("ended_with_bank_ms", figures.with_bank_in.as_millis() as u64);
    let mut took: Vec<_> = logs.values().map(|log| log.ended_ms - log.created_ms).collect();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    report.fact("order_to_end_median_ms", at(50));
    report.fact("order_to_end_p90_ms", at(90));
}

/// Orders that have one end, which is `wanted`.
fn ended(logs: &Logs, wanted: impl Fn(Status) -> bool) -> usize {
    logs.values().filter_map(Log::end).filter(|end| wanted(*end)).count()
}
