//! What modules write and what happens to them, for whoever follows it: the last lines are kept, further ones are handed
//! to those who listen.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millstream_types::{ModuleLogFilter, ModuleLogLevel, ModuleLogLine, SubscriptionName};
use tokio::sync::broadcast;

use crate::{
    broker::now,
    limits::{TAIL_BYTES, TAIL_LINES},
};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Mutex<Kept>,
    lines: broadcast::Sender<Arc<ModuleLogLine>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Arc<ModuleLogLine>>,
    bytes: usize,
}

/// The lines of modules, from the oldest that was asked for on.
#[derive(Debug)]
pub struct ModuleLog {
    filter: ModuleLogFilter,
    kept: VecDeque<Arc<ModuleLogLine>>,
    further: broadcast::Receiver<Arc<ModuleLogLine>>,
}

impl Default for Tail {
    fn default() -> Self {
        Self { kept: Mutex::default(), lines: broadcast::Sender::new(TAIL_LINES) }
    }
}

impl Tail {
    /// Keeps a line, and hands it to those who listen. Quick.
    pub(crate) fn push(&self, line: ModuleLogLine) {
        let line = Arc::new(line);
        let mut kept = self.kept();
        kept.bytes += size(&line);
        kept.lines.push_back(Arc::clone(&line));
        while kept.lines.len() > TAIL_LINES || kept.bytes > TAIL_BYTES {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= size(&oldest);
        }
        // With those who come kept out, nobody gets it twice. Nobody may listen.
        let _ = self.lines.send(line);
    }

    /// Keeps a line and tells the broker's log.
    pub(crate) fn write(
        &self,
        subscription: &SubscriptionName,
        module: &str,
        level: ModuleLogLevel,
        text: &str,
        left_out: u64,
    ) {
        let level_name = level.as_str();
        match level {
            ModuleLogLevel::Trace | ModuleLogLevel::Debug => {
                tracing::debug!(%module, %subscription, level = level_name, left_out, "{text}");
            }
            ModuleLogLevel::Info => {
                tracing::info!(%module, %subscription, level = level_name, left_out, "{text}")
            }
            ModuleLogLevel::Warn => {
                tracing::warn!(%module, %subscription, level = level_name, left_out, "{text}")
            }
            ModuleLogLevel::Error | ModuleLogLevel::Panic => {
                tracing::error!(%module, %subscription, level = level_name, left_out, "{text}");
            }
        }
        let (subscription, module, text) = (subscription.clone(), module.to_owned(), text.to_owned());
        self.push(ModuleLogLine { time_ms: now(), subscription, module, level, text, left_out });
    }

    /// The last `last` lines that `filter` lets through, and those that come.
    pub(crate) fn follow(&self, filter: ModuleLogFilter, last: usize) -> ModuleLog {
        let kept = self.kept();
        let further = self.lines.subscribe();
        let mut found: VecDeque<_> =
            kept.lines.iter().rev().filter(|line| filter.lets(line)).take(last).cloned().collect();
        found.make_contiguous().reverse();
        ModuleLog { filter, kept: found, further }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ModuleLog {
    /// The next of the lines that were kept; `None` once there are no more.
    pub fn next_kept(&mut self) -> Option<Arc<ModuleLogLine>> {
        self.kept.pop_front()
    }

    /// The next line; waits for one. How many were missed before it, since this end was too slow, counts as left out.
    /// `None` once the broker closes. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<ModuleLogLine>> {
        if let Some(line) = self.next_kept() {
            return Some(line);
        }
        let mut missed = 0;
        loop {
            match self.further.recv().await {
                Ok(line) if self.filter.lets(&line) && missed == 0 => return Some(line),
                Ok(line) if self.filter.lets(&line) => {
                    let left_out = line.left_out + missed;
                    return Some(Arc::new(ModuleLogLine { left_out, ..ModuleLogLine::clone(&line) }));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lines)) => missed += lines,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

fn size(line: &ModuleLogLine) -> usize {
    size_of::<ModuleLogLine>() + line.text.len() + line.module.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: String, level: ModuleLogLevel) -> ModuleLogLine {
        ModuleLogLine {
            time_ms: 0,
            subscription: "s".parse().unwrap(),
            module: "m@1".into(),
            level,
            text,
            left_out: 0,
        }
    }

    fn texts(log: &mut ModuleLog) -> Vec<String> {
        std::iter::from_fn(|| log.next_kept()).map(|line| line.text.clone()).collect()
    }

    #[tokio::test]
    async fn the_last_lines_come_first_and_then_those_that_follow() {
        let tail = Tail::default();
        for number in 0..10 {
            let level = if number % 2 == 0 { ModuleLogLevel::Info } else { ModuleLogLevel::Debug };
            tail.push(line(number.to_string(), level));
        }
        let filter = ModuleLogFilter { level: ModuleLogLevel::Info, ..ModuleLogFilter::default() };
        let mut log = tail.follow(filter, 3);
        tail.push(line("debug".into(), ModuleLogLevel::Debug));
        tail.push(line("10".into(), ModuleLogLevel::Error));
        let mut found = Vec::new();
        for _ in 0..4 {
            found.push(log.next().await.unwrap().text.clone());
        }
        assert_eq!(found, ["4", "6", "8", "10"]);
        drop(tail);
        assert_eq!(log.next().await, None);
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_how_much_it_missed() {
        let tail = Tail::default();
        let mut log = tail.follow(ModuleLogFilter::default(), 0);
        let lines = 2 * TAIL_LINES;
        (0..lines).for_each(|number| tail.push(line(number.to_string(), ModuleLogLevel::Info)));
        let first = log.next().await.unwrap();
        assert_eq!(first.text.parse::<u64>().unwrap(), first.left_out);
        assert!(first.left_out > 0);
    }

    #[test]
    fn what_is_kept_is_bounded_in_lines_and_bytes() {
        let tail = Tail::default();
        (0..2 * TAIL_LINES).for_each(|number| tail.push(line(number.to_string(), ModuleLogLevel::Info)));
        assert_eq!(texts(&mut tail.follow(ModuleLogFilter::default(), usize::MAX)).len(), TAIL_LINES);
        (0..TAIL_LINES).for_each(|_| tail.push(line("x".repeat(4_096), ModuleLogLevel::Info)));
        let found = texts(&mut tail.follow(ModuleLogFilter::default(), usize::MAX));
        assert!(found.len() <= TAIL_BYTES / 4_096 && found.len() > TAIL_BYTES / 8_192, "{}", found.len());
    }
}
