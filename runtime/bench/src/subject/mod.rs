//! Millstream itself: a broker, and what is measured of it through `millstream-client`.

mod broker;
mod consume;
mod latency;
mod modules;
mod publish;
mod work;

pub(crate) use broker::Broker;
pub(crate) use consume::{Pass, Passed, consume};
pub(crate) use latency::{latency, latency_judged};
pub(crate) use modules::{Bed, batch, bind, header_filter, json_filter, load, stock};
pub(crate) use publish::{Amount, Producers, Published, keep_header, publish};
pub(crate) use work::work;
