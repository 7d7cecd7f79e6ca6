//! The receipts of published records, awaited in the order of the input: those that modules on the topic's ingest did not let in
//! are told on standard error, one by one.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use indicatif::ProgressBar;
use millstream_client::{Pending, PublishError};
use serde_json::json;

/// Receipts that are waited for at most, before the next record is published.
const WAITING_MAX: usize = 100_000;

/// See the module's head.
pub(super) struct Receipts {
    waiting: VecDeque<(Place, Pending)>,
    bar: ProgressBar,
    json: bool,
}

/// Where a record is in the input, both from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) line: u64,
}

impl Receipts {
    pub(super) fn new(bar: ProgressBar, json: bool) -> Self {
        Self { waiting: VecDeque::new(), bar, json }
    }

    /// One more that will come. Waits while there are too many.
    pub(super) async fn expect(&mut self, place: Place, pending: Pending) {
        self.waiting.push_back((place, pending));
        while self.waiting.len() > WAITING_MAX {
            self.take_next().await;
        }
    }

    /// Takes those that are there.
    pub(super) fn take_ready(&mut self) {
        while let Some((place, pending)) = self.waiting.front_mut() {
            let place = *place;
            let Some(receipt) = pending.now_or_never() else { return };
            self.waiting.pop_front();
            self.tell(place, receipt.err());
        }
    }

    /// Takes all that are left, once each has come.
    pub(super) async fn take_all(&mut self) {
        while !self.waiting.is_empty() {
            self.take_next().await;
        }
    }

    async fn take_next(&mut self) {
        if let Some((place, pending)) = self.waiting.pop_front() {
            let receipt = pending.await;
            self.tell(place, receipt.err());
        }
    }

    /// Failures of whole batches are told at the end.
    fn tell(&self, Place { number, line }: Place, error: Option<PublishError>) {
        let (module, what, text) = match error {
            Some(PublishError::Rejected { module, reason }) => (module, "rejected by", reason),
            Some(PublishError::Faulted { module, cause }) => {
                (module, "not stored, since it failed in", cause)
            }
            _ => return,
        };
        let line = match self.json {
            true => json!({ "record": number, "line": line, "module": module, "reason": text }).to_string(),
            false => format!("record {number} (line {line}) {what} module {module}: {text}"),
        };
        self.bar.suspend(|| eprintln!("{line}"));
    }
}
