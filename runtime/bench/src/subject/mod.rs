//! Millstream itself: a broker, and what is measured of it through `millstream-client`.

mod broker;
mod consume;
mod latency;
mod publish;

pub(crate) use broker::Broker;
pub(crate) use consume::{Pass, consume};
pub(crate) use latency::latency;
pub(crate) use publish::{Amount, Producers, Published, keep_header, publish};
