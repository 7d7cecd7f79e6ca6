//! The bank: not ours, fails at times, and does whatever it is asked, twice if it is asked twice.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::order::{Order, OrderId};

/// The bank, and its own account of all that it was asked.
#[derive(Default)]
pub(crate) struct Bank {
    back: AtomicBool,
    accounts: Mutex<HashMap<OrderId, Account>>,
}

/// What the bank did for an order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    /// Attempts that failed.
    pub(crate) failed: u32,
    pub(crate) charges: u32,
    pub(crate) refunds: u32,
    pub(crate) declines: u32,
}

/// How it goes with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Fails so often at first.
    Fails(u32),
    /// Fails until the bank is back.
    Away,
}

/// What the bank says to a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Charged,
    Declined,
}

/// The bank cannot be reached.
pub(crate) struct Unreachable;

impl Bank {
    /// From now on it can be reached by all.
    pub(crate) fn come_back(&self) {
        self.back.store(true, Ordering::Relaxed);
    }

    /// Takes the money.
    pub(crate) fn charge(&self, order: &Order) -> Result<Answer, Unreachable> {
        let mut accounts = self.accounts();
        let account = accounts.entry(order.id).or_default();
        let fails = match mood(order.id) {
            Mood::Fails(times) => account.failed < times,
            Mood::Away => !self.back.load(Ordering::Relaxed),
        };
        if fails {
            account.failed += 1;
            return Err(Unreachable);
        }
        if declines(order.id) {
            account.declines += 1;
            return Ok(Answer::Declined);
        }
        account.charges += 1;
        Ok(Answer::Charged)
    }

    /// Gives the money back.
    pub(crate) fn refund(&self, order: &Order) {
        self.accounts().entry(order.id).or_default().refunds += 1;
    }

    /// What it did for an order.
    pub(crate) fn account(&self, order: OrderId) -> Account {
        self.accounts().get(&order).copied().unwrap_or_default()
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<OrderId, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How it goes with an order: the same in each run.
pub(crate) fn mood(order: OrderId) -> Mood {
    match order.chance("bank", 100) {
        0..76 => Mood::Fails(0),
        76..86 => Mood::Fails(1),
        86..92 => Mood::Fails(2),
        _ => Mood::Away,
    }
}

/// Whether the customer has not the money; more often where the bank was away.
fn declines(order: OrderId) -> bool {
    order.chance("money", 100) < if mood(order) == Mood::Away { 30 } else { 3 }
}
