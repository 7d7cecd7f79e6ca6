//! The configuration: its expressions, compiled, and what they say of a record.

use std::sync::Arc;

use cel::common::types::{CelBool, CelInt, CelList, CelNull, CelString};
use cel::common::value::Val;
use cel::{Context, Env};
use millstream_filter_predicate::ConfigError;
use millstream_sdk::prelude::*;
use millstream_sdk::{SchemaText, TopicPattern};

use crate::expression::Expression;
use crate::needs::Needs;
use crate::{functions, value};

const SHAPE: &str = r#"write {"filter": "payload.dep_delay > 60"}, {"map": EXPRESSION} or {"route": EXPRESSION}, or several of them"#;
/// As many as the broker takes for one record.
const TOPICS_MAX: usize = 4096;

/// CEL expressions over `key`, `headers`, `payload`, `offset` and `timestamp`: at least one.
///
/// The configuration as it is written.
#[derive(Debug, Default, ModuleConfig)]
struct Written {
    /// The records that are kept, as in `payload.dep_delay > 60`.
    #[serde(default)]
    filter: Option<String>,
    /// What becomes the payload.
    #[serde(default)]
    map: Option<String>,
    /// The topic that the record goes to, or a list of them; null drops it.
    #[serde(default)]
    route: Option<String>,
    /// Topics and patterns that `route` may name: all without it.
    #[serde(default)]
    topics: Option<Vec<String>>,
    /// What becomes of a record for which an expression fails.
    #[serde(default)]
    on_error: OnError,
}

/// What becomes of a record for which an expression fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ModuleConfig)]
#[serde(rename_all = "snake_case")]
enum OnError {
    #[default]
    Reject,
    Drop,
    Keep,
}

/// Expressions, and what becomes of a record for which one fails.
pub struct Config {
    env: Arc<Env>,
    filter: Option<Expression>,
    map: Option<Expression>,
    route: Option<Expression>,
    /// Where `route` may send to; none: anywhere.
    topics: Option<Vec<TopicPattern>>,
    on_error: OnError,
    /// What all of the expressions together read: a field for each variable.
    needs: Needs,
}

impl Config {
    /// Whether an expression names the payload.
    pub(crate) fn reads_payload(&self) -> bool {
        self.needs.child("payload").is_some()
    }

    /// The topics that `route` may name.
    pub(crate) fn topics(&self) -> Vec<String> {
        match (&self.route, &self.topics) {
            (None, _) => Vec::new(),
            (Some(_), None) => vec![">".to_owned()],
            (Some(_), Some(topics)) => topics.iter().map(|topic| topic.as_str().to_owned()).collect(),
        }
    }

    /// What becomes of the record.
    pub(crate) fn judge(&self, record: &Record<'_>) -> Result<Vec<Output>, String> {
        self.outputs(record).or_else(|why| match self.on_error {
            OnError::Reject => Err(why),
            OnError::Drop => Ok(Vec::new()),
            OnError::Keep => Ok(vec![Output::same()]),
        })
    }

    fn outputs(&self, record: &Record<'_>) -> Result<Vec<Output>, String> {
        let context = self.context(record)?;
        if let Some(filter) = &self.filter {
            let result = filter.evaluate(&context)?;
            if !keeps(filter, result.as_ref())? {
                return Ok(Vec::new());
            }
        }
        let output = match &self.map {
            // What deletes a key goes on deleting it.
            Some(map) if !record.is_tombstone() => {
                let result = map.evaluate(&context)?;
                Output::payload(payload(map, result.as_ref())?)
            }
            _ => Output::same(),
        };
        match &self.route {
            Some(route) => {
                let result = route.evaluate(&context)?;
                let topics = self.destinations(route, result.as_ref())?;
                Ok(topics.into_iter().map(|topic| output.clone().to_topic(topic)).collect())
            }
            None => Ok(vec![output]),
        }
    }

    /// Refuses expressions that can do for no record.
    fn check_constants(&self) -> Result<(), ConfigError> {
        let context = Context::with_env(Arc::clone(&self.env));
        if let Some(filter) = &self.filter {
            filter.check_constant(&context, |result| keeps(filter, result))?;
        }
        if let Some(map) = &self.map {
            map.check_constant(&context, |result| payload(map, result))?;
        }
        match &self.route {
            Some(route) => route.check_constant(&context, |result| self.destinations(route, result)),
            None => Ok(()),
        }
    }

    fn destinations(&self, route: &Expression, result: &dyn Val) -> Result<Vec<String>, String> {
        if result.downcast_ref::<CelNull>().is_some() {
            return Ok(Vec::new());
        }
        let Some(list) = result.downcast_ref::<CelList<'_>>() else {
            return Ok(vec![self.destination(route, result)?]);
        };
        if list.len() > TOPICS_MAX {
            let fault = format!("names {} topics, above the limit of {TOPICS_MAX}", list.len());
            return Err(route.fault(fault));
        }
        list.iter().map(|topic| self.destination(route, topic.as_ref())).collect()
    }

    fn destination(&self, route: &Expression, topic: &dyn Val) -> Result<String, String> {
        let Some(topic) = topic.downcast_ref::<CelString<'_>>() else {
            return Err(route.fault(format!("is {}, not a topic or a list of topics", value::kind(topic))));
        };
        let name = TopicName::new(topic.inner()).map_err(|error| route.fault(error.to_string()))?;
        let announced = self.topics.as_ref();
        match announced.is_none_or(|topics| topics.iter().any(|pattern| pattern.matches(&name))) {
            true => Ok(name.into()),
            false => Err(route.fault(format!("names {:?}, which is not in config.topics", name.as_str()))),
        }
    }

    /// The variables that the expressions name, of this record.
    fn context<'a>(&self, record: &Record<'a>) -> Result<Context<'a, 'a>, String> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        let needs = |name| self.needs.child(name);
        if needs("offset").is_some() {
            // Offsets stay far below.
            let offset = i64::try_from(record.offset()).unwrap_or(i64::MAX);
            context.add_variable_as_val("offset", Box::new(CelInt::from(offset)));
        }
        if needs("timestamp").is_some() {
            context.add_variable_as_val("timestamp", Box::new(CelInt::from(record.timestamp())));
        }
        if needs("key").is_some() {
            context.add_variable_as_val(
                "key",
                record.key().map_or_else(|| Box::new(CelNull) as _, value::of_bytes),
            );
        }
        if let Some(needs) = needs("headers") {
            context.add_variable_as_val("headers", value::headers(record, needs));
        }
        if let Some(needs) = needs("payload") {
            let payload = match record.is_tombstone() {
                true => Box::new(CelNull) as _,
                false => value::parse(record.payload(), needs)?,
            };
            context.add_variable_as_val("payload", payload);
        }
        Ok(context)
    }
}

impl ModuleConfig for Config {
    const SCHEMA: SchemaText = Written::SCHEMA;

    fn from_json(json: &str) -> Result<Self, String> {
        let Written { filter, map, route, topics, on_error } = Written::from_json(json)?;
        let env = Arc::new(functions::environment()?);
        let mut needs = Needs::default();
        let mut compile = |field: &'static str, source: Option<String>| {
            let compile = |source: String| {
                Expression::compile(field, &source, &env, &mut needs)
                    .map_err(|fault| ConfigError::new(format!("config.{field}"), fault))
            };
            source.map(compile).transpose()
        };
        let (filter, map, route) =
            (compile("filter", filter)?, compile("map", map)?, compile("route", route)?);
        if filter.is_none() && map.is_none() && route.is_none() {
            return Err(ConfigError::new("config", format!("has no expression: {SHAPE}")).into());
        }
        let topics = topics.map(|topics| patterns(&topics)).transpose()?;
        if topics.is_some() && route.is_none() {
            let fault =
                "stands without `route`, which alone sends records to topics: remove one or add the other";
            return Err(ConfigError::new("config.topics", fault).into());
        }
        let config = Self { env, filter, map, route, topics, on_error, needs };
        config.check_constants()?;
        Ok(config)
    }
}

fn keeps(filter: &Expression, result: &dyn Val) -> Result<bool, String> {
    match result.downcast_ref::<CelBool>() {
        Some(kept) => Ok(*kept.inner()),
        None => Err(filter.fault(format!("is {}, not true or false", value::kind(result)))),
    }
}

fn payload(map: &Expression, result: &dyn Val) -> Result<Vec<u8>, String> {
    value::to_json(result).map_err(|fault| map.fault(fault))
}

fn patterns(topics: &[String]) -> Result<Vec<TopicPattern>, ConfigError> {
    if topics.is_empty() {
        let fault = r#"is empty: name topics or patterns, as in ["flights.>"], or leave it out"#;
        return Err(ConfigError::new("config.topics", fault));
    }
    let pattern = |(index, topic): (usize, &String)| {
        TopicPattern::new(topic.as_str())
            .map_err(|error| ConfigError::new(format!("config.topics[{index}]"), error.to_string()))
    };
    topics.iter().enumerate().map(pattern).collect()
}
