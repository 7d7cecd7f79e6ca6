//! What operators watch, as Prometheus reads it: broker, topics, subscriptions, and what each module uses of its budgets.

use std::fmt;

use millstream_broker::Broker;
use millstream_types::{Counters, ModuleUsage, SubscriptionInfo, SubscriptionState, TopicInfo};
use millstream_wire::ServerInfo;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet, prometheus_text,
    },
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use crate::limits::METRICS_OWN_MAX;

mod endpoint;

pub(crate) use endpoint::serve;

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// Everything, as it stands. Reads the store: not for a thread that serves others.
pub(crate) fn text(info: ServerInfo, broker: &Broker) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("millstream");
    registry.register_collector(Box::new(Standing::of(info, broker)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// How the broker stands.
#[derive(Debug)]
struct Standing {
    info: ServerInfo,
    topics: Vec<TopicInfo>,
    subscriptions: Vec<SubscriptionInfo>,
    modules: Vec<Module>,
    /// Counters and gauges of modules beyond what is told.
    untold: u64,
}

/// A module where it is bound.
#[derive(Debug)]
struct Module {
    /// Of a topic's ingest `ingest.TOPIC`, as in the modules' log.
    subscription: String,
    used: ModuleUsage,
}

impl Module {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("subscription", &self.subscription), ("module", &self.used.module)]
    }
}

impl Standing {
    fn of(info: ServerInfo, broker: &Broker) -> Self {
        let (topics, mut subscriptions) = (broker.topics_in_use(), broker.subscriptions_in_use());
        let mut modules = Vec::new();
        for subscription in &mut subscriptions {
            modules.extend(subscription.modules.drain(..).map(|used| (subscription.name.to_string(), used)));
        }
        for topic in &topics {
            let used = topic.ingest.iter().flat_map(|ingest| &ingest.modules);
            modules.extend(used.map(|used| (format!("ingest.{}", topic.name), used.clone())));
        }
        let modules = modules.into_iter().map(|(subscription, used)| Module { subscription, used });
        let mut modules: Vec<_> = modules.collect();
        let untold = leave_out(&mut modules, METRICS_OWN_MAX);
        Self { info, topics, subscriptions, modules, untold }
    }
}

/// Leaves out what modules count beyond `most`, of the last modules all; how much that was.
fn leave_out(modules: &mut [Module], most: usize) -> u64 {
    let (mut told, mut untold) = (0, 0);
    for metrics in modules.iter_mut().map(|module| &mut module.used.metrics) {
        let own = metrics.counters.len() + metrics.gauges.len();
        if told + own > most {
            untold += own as u64;
            metrics.counters.clear();
            metrics.gauges.clear();
        } else {
            told += own;
        }
    }
    untold
}

impl Collector for Standing {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.encode_broker(&mut families)?;
        self.encode_topics(&mut families)?;
        self.encode_subscriptions(&mut families)?;
        self.encode_modules(&mut families)
    }
}

impl Standing {
    fn encode_broker(&self, families: &mut Families<'_>) -> fmt::Result {
        let info = &self.info;
        let build = [[("version", info.version.as_str()), ("node", info.node.as_str())]];
        families.gauge("build_info", "The broker, by labels", build.map(|labels| (labels, 1)))?;
        for (name, help, value) in [
            ("start_time_seconds", "When it started, since the Unix epoch", info.started_ms as f64 / 1e3),
            ("connections", "Connections now", info.connections as f64),
            ("topics", "Topics there are", info.topics as f64),
            ("subscriptions", "Subscriptions there are, ephemeral ones included", info.subscriptions as f64),
            ("publishers_slowed", "Publishers that are held back now", info.slowed as f64),
            ("disk_bytes", "Bytes on disk", info.disk_bytes as f64),
        ] {
            families.gauge(name, help, [(NONE, value)])?;
        }
        let slowed = "How often a publisher was told to slow down";
        families.counter("slow_downs", slowed, [(NONE, info.slow_downs)])?;
        let vanished = "Connections given up since their process was gone";
        families.counter("connections_vanished", vanished, [(NONE, info.vanished)])
    }

    fn encode_topics(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |value: fn(&TopicInfo) -> u64| {
            self.topics.iter().map(move |topic| ([("topic", topic.name.as_str())], value(topic)))
        };
        families.gauge("topic_records", "Records kept", of(|topic| topic.records))?;
        families.gauge("topic_bytes", "Bytes of the batches kept", of(|topic| topic.bytes))?;
        let ingests = || {
            let judged = self.topics.iter().filter_map(|topic| Some((topic, topic.ingest.as_deref()?)));
            judged.map(|(topic, ingest)| ([("topic", topic.name.as_str())], ingest))
        };
        let faulted = ingests().map(|(labels, ingest)| (labels, u64::from(ingest.fault.is_some())));
        families.gauge("ingest_faulted", "1 while modules on a topic's ingest are let alone", faulted)?;
        let results = ingests().flat_map(|(labels, ingest)| {
            let judged = [
                ("in", ingest.records_in),
                ("rejected", ingest.rejected),
                ("faulted", ingest.faulted),
                ("dropped", ingest.dropped),
                ("changed", ingest.changed),
            ];
            judged.map(|(result, records)| ([labels[0], ("result", result)], records))
        });
        let help = "Records that went through modules before they were stored, since those were set";
        families.counter("ingest_records", help, results)
    }

    fn encode_subscriptions(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |value: fn(&SubscriptionInfo) -> u64| {
            self.subscriptions.iter().map(move |one| (labels(one), value(one)))
        };
        let is_faulted = |one: &SubscriptionInfo| u64::from(one.state == SubscriptionState::Faulted);
        families.gauge("subscription_consumers", "Consumers connected", of(|one| one.consumers))?;
        families.gauge("subscription_faulted", "1 while its modules fail", of(is_faulted))?;
        families.gauge("subscription_pending", "Records scanned and not settled", of(|one| one.pending))?;
        families.gauge("subscription_unscanned", "Records still to be scanned", of(|one| one.unscanned))?;
        type Counted = (&'static str, fn(&Counters) -> u64);
        let results: [Counted; 7] = [
            ("in", |counters| counters.records_in),
            ("out", |counters| counters.records_out),
            ("dropped", |counters| counters.dropped),
            ("routed", |counters| counters.routed),
            ("rejected", |counters| counters.rejected),
            ("faulted", |counters| counters.faulted),
            ("missed", |counters| counters.missed),
        ];
        let records = self.subscriptions.iter().flat_map(|one| {
            results.map(|(result, value)| {
                let [subscription, topic] = labels(one);
                ([subscription, topic, ("result", result)], value(&one.counters))
            })
        });
        families.counter("subscription_records", "Records scanned, and what became of them", records)
    }

    fn of_modules<V>(
        &self,
        value: fn(&ModuleUsage) -> V,
    ) -> impl Iterator<Item = ([(&'static str, &str); 2], V)> {
        self.modules.iter().map(move |module| (module.labels(), value(&module.used)))
    }

    fn encode_modules(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |value: fn(&ModuleUsage) -> u64| self.of_modules(value);
        let seconds = |value: fn(&ModuleUsage) -> f64| self.of_modules(value);
        families.counter("module_calls", "Calls into the module", of(|used| used.calls))?;
        families.counter("module_faults", "Calls that ended in a fault", of(|used| used.faults))?;
        families.counter("module_records", "Records it was given", of(|used| used.records))?;
        families.counter("module_seconds", "Time in it", seconds(|used| used.module_ns as f64 / 1e9))?;
        let longest = "Its longest call";
        families.gauge(
            "module_longest_call_seconds",
            longest,
            seconds(|used| used.longest_ns as f64 / 1e9),
        )?;
        let budget = "CPU time that a call may use";
        families.gauge("module_call_budget_seconds", budget, seconds(|used| used.budget_ms as f64 / 1e3))?;
        let memory = "Most memory that an instance has had";
        families.gauge("module_memory_bytes", memory, of(|used| used.memory_bytes))?;
        let budget = "Memory that an instance may have";
        families.gauge("module_memory_budget_bytes", budget, of(|used| used.memory_budget_bytes))?;
        let left_out = "Changes of the module's own metrics that do not count: too many, or bad names";
        families.counter("module_metrics_left_out", left_out, of(|used| used.metrics.left_out))?;
        let untold = "Counters and gauges of modules that are not told, since there are too many";
        families.gauge("module_metrics_untold", untold, [(NONE, self.untold)])?;
        let counters = self.modules.iter().flat_map(|module| {
            let [subscription, name] = module.labels();
            let counters = module.used.metrics.counters.iter();
            counters
                .map(move |(counter, value)| ([subscription, name, ("counter", counter.as_str())], *value))
        });
        families.counter("module_counter", "What the module counts itself", counters)?;
        let gauges = self.modules.iter().flat_map(|module| {
            let [subscription, name] = module.labels();
            let gauges = module.used.metrics.gauges.iter();
            gauges.map(move |(gauge, value)| ([subscription, name, ("gauge", gauge.as_str())], *value))
        });
        families.gauge("module_gauge", "What the module shows itself", gauges)
    }
}

const NONE: [(&str, &str); 0] = [];

fn labels(of: &SubscriptionInfo) -> [(&'static str, &str); 2] {
    [("subscription", of.name.as_str()), ("topic", of.topic.as_str())]
}

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        samples.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter(&value, NO_EXEMPLAR)
        })
    }

    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        samples
            .into_iter()
            .try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_modules_count_is_told_up_to_a_limit() {
        let module = |names: &[&str]| {
            let mut used = ModuleUsage::default();
            names.iter().for_each(|name| used.metrics.add(name, 1));
            Module { subscription: "s".into(), used }
        };
        let mut modules = [module(&["a", "b"]), module(&["c", "d", "e"]), module(&["f"])];
        assert_eq!(leave_out(&mut modules, 3), 3);
        let told = modules.map(|module| module.used.metrics.counters.len());
        assert_eq!(told, [2, 0, 1]);
    }
}
